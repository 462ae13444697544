//! Expressions of `expr_create`: of the Common Expression Language the part that this library plays, lists of attributes.

use std::collections::BTreeMap;

use crate::property::Path;

/// The expressions of one VM, by the numbers that the guest knows them under.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    lists: BTreeMap<u32, Vec<Path>>,
    next: u32,
}

impl Expressions {
    /// Takes in a list, and numbers it.
    pub(crate) fn add(&mut self, list: Vec<Path>) -> u32 {
        let token = self.next;
        self.next += 1;
        self.lists.insert(token, list);
        token
    }

    /// The attributes of a list.
    pub(crate) fn list(&self, token: u32) -> Option<&[Path]> {
        self.lists.get(&token).map(Vec::as_slice)
    }

    /// Forgets a list, if there is one.
    pub(crate) fn remove(&mut self, token: u32) {
        self.lists.remove(&token);
    }
}

/// Reads `[name.name, …]`; `None` for any other expression.
pub(crate) fn attributes(text: &str) -> Option<Vec<Path>> {
    let names = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let attribute = |text: &str| text.split('.').all(is_name).then(|| Path::from(text));
    names.split(',').map(|name| attribute(name.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_attributes_is_all_that_is_read() {
        let read = attributes("[request.path,\n  upstream.request_attempt_count]").unwrap();
        assert_eq!(read, [Path::from("request.path"), Path::from("upstream.request_attempt_count")]);
        for other in ["", "request.path", "[", "[]", "[a,]", "[1 + 2]", "[has(a.b)]", "[a['b']]", "[a ? b : c]", "[a.]"]
        {
            assert_eq!(attributes(other), None, "{other}");
        }
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut expressions = Expressions::default();
        let list = || attributes("[a.b]").unwrap();
        assert_eq!([expressions.add(list()), expressions.add(list())], [0, 1]);
        expressions.remove(1);
        assert_eq!(expressions.list(1), None);
        assert_eq!(expressions.add(list()), 2);
    }
}
