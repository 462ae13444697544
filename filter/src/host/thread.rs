//! The module's only thread: the state that it owns, and its end.
#![expect(unsafe_code, reason = "a static with a state must be declared safe to share")]

use core::cell::{RefCell, RefMut};

#[cfg(target_feature = "atomics")]
compile_error!("the filter's state is for a module with one thread");

/// A value of the module.
#[derive(Debug)]
pub(super) struct OfThread<T>(RefCell<T>);

// SAFETY: nothing is shared, since a VM runs on one thread: proxy-wasm knows no others, and the target has none.
unsafe impl<T> Sync for OfThread<T> {}

impl<T> OfThread<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// The value; `None` while it is borrowed already.
    pub(super) fn borrow_mut(&self) -> Option<RefMut<'_, T>> {
        self.0.try_borrow_mut().ok()
    }
}

/// The filter does not panic. Should a dependency, that is a trap; a message would only make the module larger.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
