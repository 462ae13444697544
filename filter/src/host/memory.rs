//! The module's memory. Without the standard library a module brings its own allocator: TLSF (Masmano et al., "TLSF: a
//! new dynamic memory allocator for real-time systems"), which takes the same short time for every block and is an
//! eighth of the standard library's in size.
#![expect(unsafe_code, reason = "allocators deal in raw pointers")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::ptr::NonNull;

use rlsf::{FlexSource, FlexTlsf};

use super::thread::OfThread;

// The target's C library: comparing slices takes its `memcmp`, which is all that the linker takes of it.
#[link(name = "c")]
unsafe extern "C" {}

/// Bytes of a page of WebAssembly's memory.
const PAGE_BYTES: usize = 1 << 16;
/// Pages of the whole memory: with one more the address of its end would be 0.
const PAGES_MAX: usize = 0xffff;

/// Blocks of up to 1 GiB, in 16 sizes between each power of two and the next.
type Tlsf = FlexTlsf<Pages, u32, u16, 26, 16>;

#[global_allocator]
static MEMORY: Memory = Memory(OfThread::new(Tlsf::new(Pages)));

/// Its functions stay out of line: allocations are everywhere, and the module's size matters.
#[derive(Debug)]
struct Memory(OfThread<Tlsf>);

// SAFETY: every block is TLSF's. No allocation happens within another; it would find the memory borrowed, and get none.
unsafe impl GlobalAlloc for Memory {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.borrow_mut().and_then(|mut tlsf| tlsf.allocate(layout));
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let (Some(mut tlsf), Some(block)) = (self.0.borrow_mut(), NonNull::new(block)) {
            // SAFETY: the caller hands back a block that it got with this alignment.
            unsafe { tlsf.deallocate(block, layout.align()) };
        }
    }
}

/// The pages behind those that the module starts with. They are never given back: WebAssembly has no way to.
#[derive(Debug)]
struct Pages;

impl Pages {
    /// Takes pages for so many bytes, and returns the first byte and how many bytes there are.
    fn take(bytes: usize) -> Option<(usize, usize)> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        if pages > PAGES_MAX.saturating_sub(memory_size::<0>()) {
            return None;
        }
        let first = memory_grow::<0>(pages);
        (first != usize::MAX).then(|| (first * PAGE_BYTES, pages * PAGE_BYTES))
    }
}

// SAFETY: every page is handed out once, either for itself or behind the pages that it adjoins.
unsafe impl FlexSource for Pages {
    unsafe fn alloc(&mut self, min_size: usize) -> Option<NonNull<[u8]>> {
        let (start, bytes) = Self::take(min_size)?;
        NonNull::new(core::ptr::slice_from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(start), bytes))
    }

    unsafe fn realloc_inplace_grow(&mut self, pages: NonNull<[u8]>, min_new_len: usize) -> Option<usize> {
        let end = pages.cast::<u8>().addr().get() + pages.len();
        // Whoever else took pages would have them in between.
        if end != memory_size::<0>() * PAGE_BYTES {
            return None;
        }
        Self::take(min_new_len - pages.len()).map(|(_, more)| pages.len() + more)
    }

    fn supports_realloc_inplace_grow(&self) -> bool {
        true
    }

    fn min_align(&self) -> usize {
        PAGE_BYTES
    }
}
