//! Records from the moment they are offered to the receiver's answer, with a virtual clock and a scripted receiver.

mod accounting;
mod answers;
mod encodings;
mod flush;
mod harness;
mod log;
