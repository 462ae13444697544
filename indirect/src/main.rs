//! `indirect FROM TO` rewrites a module file as the library does.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = paths.as_slice() else {
        eprintln!("usage: indirect FROM TO");
        return ExitCode::FAILURE;
    };
    let module = std::fs::read(from).map_err(|why| format!("{}: {why}", from.display()));
    let rewritten =
        module.and_then(|module| indirect::rewrite(&module).map_err(|why| format!("{}: {why}", from.display())));
    match rewritten.and_then(|bytes| std::fs::write(to, bytes).map_err(|why| format!("{}: {why}", to.display()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("indirect: {why}");
            ExitCode::FAILURE
        }
    }
}
