//! The protocol: messages with metadata, each behind its length.
//!
//! ```text
//! message = length:u32be metadata body          ; length counts what follows it
//! metadata = count:u16be count*( text text )    ; names and values
//! text    = length:u16be length*OCTET
//! ```

use std::io::{self, Read, Write};

/// Longer messages are refused unread, so that a peer cannot choose how much memory is taken.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// One message. The metadata is a [carrier](newrelic_tracing::carrier::Carrier) as it stands.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn new(body: &str) -> Self {
        Self { metadata: Vec::new(), body: body.into() }
    }

    pub(crate) fn send(&self, stream: &mut impl Write) -> io::Result<()> {
        let mut bytes = short(self.metadata.len())?.to_vec();
        for (name, value) in &self.metadata {
            for text in [name.as_bytes(), value] {
                bytes.extend(short(text.len())?);
                bytes.extend(text);
            }
        }
        bytes.extend(&self.body);
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
        stream.write_all(&length.ok_or_else(|| broken("the message is too long"))?.to_be_bytes())?;
        stream.write_all(&bytes)
    }

    pub(crate) fn receive(stream: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MESSAGE_BYTES_MAX {
            return Err(broken("the message is too long"));
        }
        let mut bytes = Vec::new();
        stream.take(length.into()).read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let count = take_short(&mut rest)?;
        let metadata =
            (0..count).map(|_| Ok((take_name(&mut rest)?, take_text(&mut rest)?))).collect::<io::Result<_>>()?;
        Ok(Self { metadata, body: rest.to_vec() })
    }
}

fn short(length: usize) -> io::Result<[u8; 2]> {
    u16::try_from(length).map(u16::to_be_bytes).map_err(|_| broken("the metadata is too long"))
}

fn take_short(rest: &mut &[u8]) -> io::Result<u16> {
    let mut bytes = [0; 2];
    rest.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn take_text(rest: &mut &[u8]) -> io::Result<Vec<u8>> {
    let length = take_short(rest)?;
    let (text, behind) = rest.split_at_checked(length.into()).ok_or_else(|| broken("the message is cut off"))?;
    *rest = behind;
    Ok(text.to_vec())
}

fn take_name(rest: &mut &[u8]) -> io::Result<String> {
    String::from_utf8(take_text(rest)?).map_err(|_| broken("a name is not text"))
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
