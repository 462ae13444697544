//! The page's files, all of them inside of the program.

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    /// Its name below `/assets/`.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) content_type: &'static str,
    /// What is in it.
    pub(super) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset { name: $name, content_type: $content_type, bytes: include_bytes!(concat!("../../page/", $name)) }
    };
}

/// The page itself.
pub(super) const INDEX: Asset = asset!("index.html", HTML);

/// What it asks for.
pub(super) const ASSETS: &[Asset] = &[
    asset!("api.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("icon.svg", "image/svg+xml"),
    asset!("list.js", SCRIPT),
    asset!("map.js", SCRIPT),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("ui.js", SCRIPT),
    asset!("waterfall.js", SCRIPT),
];

/// The file of this name.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_program() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.') && name != INDEX.name)
            .collect();
        files.sort_unstable();
        let names: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        assert_eq!(names, files);
    }
}
