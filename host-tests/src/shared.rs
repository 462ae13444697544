//! Data and queues shared by all VMs with the same `vm_id`.
//!
//! Source: `proxy-wasm-cpp-host`, `src/shared_data.cc` and `src/shared_queue.cc`.

use std::collections::{BTreeMap, VecDeque};

use crate::abi::Status;

/// Key-value pairs, each with a compare-and-swap token.
#[derive(Debug)]
pub(crate) struct SharedData {
    entries: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    next_cas: u32,
}

impl Default for SharedData {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), next_cas: 1 }
    }
}

impl SharedData {
    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.entries.get(&(vm_id.to_owned(), key.to_vec())).cloned()
    }

    /// Writes when `cas` is 0, names the present value, or there is none.
    ///
    /// # Errors
    /// `CasMismatch` when another value is present.
    pub(crate) fn set(&mut self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let key = (vm_id.to_owned(), key.to_vec());
        if let Some((_, present)) = self.entries.get(&key)
            && cas != 0
            && cas != *present
        {
            return Err(Status::CasMismatch);
        }
        let token = self.next_cas;
        // Zero means "no token" and is never handed out.
        self.next_cas = self.next_cas.wrapping_add(1).max(1);
        self.entries.insert(key, (value.to_vec(), token));
        Ok(())
    }
}

/// Where the readiness of a queue is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) vm: usize,
    pub(crate) root: u32,
}

#[derive(Debug)]
struct Queue {
    vm_id: String,
    name: Vec<u8>,
    listener: Listener,
    items: VecDeque<Vec<u8>>,
}

/// The queues of the proxy. A token is a position plus one, so 0 is never a token.
#[derive(Debug, Default)]
pub(crate) struct SharedQueues {
    queues: Vec<Queue>,
}

impl SharedQueues {
    /// Makes the queue, or takes it over from who registered it before. The items stay.
    pub(crate) fn register(&mut self, vm_id: &str, name: &[u8], listener: Listener) -> u32 {
        if let Some(token) = self.resolve(vm_id, name) {
            if let Some(queue) = self.at(token) {
                queue.listener = listener;
            }
            return token;
        }
        self.queues.push(Queue { vm_id: vm_id.to_owned(), name: name.to_vec(), listener, items: VecDeque::new() });
        u32::try_from(self.queues.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let position = self.queues.iter().position(|q| q.vm_id == vm_id && q.name == name)?;
        u32::try_from(position + 1).ok()
    }

    /// Adds an item and tells who must hear of it.
    pub(crate) fn enqueue(&mut self, token: u32, item: &[u8]) -> Option<Listener> {
        let queue = self.at(token)?;
        queue.items.push_back(item.to_vec());
        Some(queue.listener)
    }

    /// # Errors
    /// `NotFound` without such a queue, `Empty` without an item.
    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        let queue = self.at(token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    fn at(&mut self, token: u32) -> Option<&mut Queue> {
        let position = usize::try_from(token).ok()?.checked_sub(1)?;
        self.queues.get_mut(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_token_is_refused_and_zero_always_writes() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", b"k", b"1", 99), Ok(()), "nothing to compare with");
        let (_, token) = data.get("vm", b"k").unwrap();
        assert_eq!(data.set("vm", b"k", b"2", token), Ok(()));
        assert_eq!(data.set("vm", b"k", b"3", token), Err(Status::CasMismatch));
        assert_eq!(data.set("vm", b"k", b"4", 0), Ok(()));
        assert_eq!(data.get("vm", b"k").unwrap().0, b"4");
    }

    #[test]
    fn another_vm_id_is_another_namespace() {
        let mut data = SharedData::default();
        assert_eq!(data.set("a", b"k", b"1", 0), Ok(()));
        assert_eq!(data.get("b", b"k"), None);
    }

    #[test]
    fn a_queue_keeps_its_items_and_its_last_registrant() {
        let mut queues = SharedQueues::default();
        let (first, second) = (Listener { vm: 1, root: 1 }, Listener { vm: 2, root: 1 });
        let token = queues.register("vm", b"q", first);
        assert_eq!(queues.enqueue(token, b"x"), Some(first));
        assert_eq!(queues.register("vm", b"q", second), token);
        assert_eq!(queues.enqueue(token, b"y"), Some(second));
        assert_eq!(queues.dequeue(token), Ok(b"x".to_vec()));
        assert_eq!(queues.dequeue(token), Ok(b"y".to_vec()));
        assert_eq!(queues.dequeue(token), Err(Status::Empty));
        for unknown in [0, token + 1] {
            assert_eq!(queues.dequeue(unknown), Err(Status::NotFound), "{unknown}");
        }
        assert_eq!(queues.resolve("other", b"q"), None);
    }
}
