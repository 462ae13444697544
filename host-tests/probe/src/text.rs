//! Scripts and what they show, as text.

/// The operations that the script has for a callback.
pub(crate) fn section<'a>(script: &'a str, callback: &str) -> impl Iterator<Item = &'a str> {
    let mut sections = script.split('|').filter_map(|section| section.split_once(':'));
    let found = sections.find(|(name, _)| name.trim() == callback);
    let operations = found.map_or("", |(_, operations)| operations);
    operations.split(';').map(str::trim).filter(|operation| !operation.is_empty())
}

/// A word of a script as bytes: `%` and two hexadecimal digits are the byte they name, and `''` is empty.
pub(crate) fn bytes(word: &str) -> Vec<u8> {
    if word == "''" {
        return Vec::new();
    }
    let mut parts = word.split('%');
    let mut bytes = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        match part.split_at_checked(2).map(|(digits, rest)| (u8::from_str_radix(digits, 16), rest)) {
            Some((Ok(byte), rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            Some((Err(_), _)) | None => bytes.extend_from_slice(part.as_bytes()),
        }
    }
    bytes
}

/// Header lines as they crossed the ABI.
pub(crate) fn pairs(form: &[u8]) -> String {
    let Some(lines) = lines(form) else { return format!("not pairs: {}", form.escape_ascii()) };
    let shown: Vec<String> =
        lines.iter().map(|(name, value)| format!("[{}={}]", name.escape_ascii(), value.escape_ascii())).collect();
    format!("{} {}", shown.len(), shown.concat())
}

/// One line: a name and a value.
type Line<'a> = (&'a [u8], &'a [u8]);

fn lines(form: &[u8]) -> Option<Vec<Line<'_>>> {
    let word = |at: usize| {
        let bytes = form.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let count = word(0)?;
    let mut at = 4 + 8 * count;
    let mut lines = Vec::new();
    for line in 0..count {
        let (name_len, value_len) = (word(4 + 8 * line)?, word(8 + 8 * line)?);
        let value_at = at + name_len + 1;
        lines.push((form.get(at..at + name_len)?, form.get(value_at..value_at + value_len)?));
        at = value_at + value_len + 1;
    }
    Some(lines)
}

/// What stays the same of a value that differs between two runs: its length, or the text around digits.
pub(crate) fn shape(value: &[u8]) -> String {
    let printable = value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    if !printable || value.is_empty() {
        return format!("{} bytes", value.len());
    }
    let mut shape = String::new();
    for byte in value {
        if byte.is_ascii_digit() {
            if !shape.ends_with('#') {
                shape.push('#');
            }
        } else {
            shape.push(char::from(*byte));
        }
    }
    shape
}
