//! The module's memory. Without the standard library a module brings its own allocator: TLSF (Masmano et al., "TLSF: a
//! new dynamic memory allocator for real-time systems"), which takes the same short time for every block and is an
//! eighth of the standard library's in size. In front of it stand lists of small blocks that were given back: a request
//! takes the blocks that the one before it used.
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
static MEMORY: Memory = Memory(OfThread::new(Heap { tlsf: Tlsf::new(Pages), spare: [const { Spare::EMPTY }; SIZES] }));

/// Its functions stay out of line: allocations are everywhere, and the module's size matters.
#[derive(Debug)]
struct Memory(OfThread<Heap>);

// SAFETY: every block is TLSF's, of the size that is asked for or of the next size of spare blocks, and on one list or in
// one owner's hands. No allocation happens within another; it would find the memory borrowed, and get none.
unsafe impl GlobalAlloc for Memory {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.borrow_mut().and_then(|mut heap| heap.allocate(layout));
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let (Some(mut heap), Some(block)) = (self.0.borrow_mut(), NonNull::new(block)) {
            // SAFETY: the caller hands back a block that it got for this layout.
            unsafe { heap.give_back(block, layout) };
        }
    }
}

/// Blocks of up to so many bytes come in few sizes, and are kept when they are given back.
const SMALL_BYTES_MAX: usize = 4096;
/// Bytes between one size and the next up to [`FINE_BYTES_MAX`]; behind that there are four sizes to each doubling.
const FINE_STEP_BYTES: usize = 16;
/// Most blocks of a request are no larger.
const FINE_BYTES_MAX: usize = 256;
const FINE_SIZES: usize = FINE_BYTES_MAX / FINE_STEP_BYTES;
/// Sizes of small blocks.
const SIZES: usize = FINE_SIZES + 16;
/// Blocks of one size that are kept: for the requests that a worker serves at once, and for those that wait for their
/// records. All together are at most 1.8 MB.
const SPARE_MAX: u32 = 64;
/// What small blocks are aligned to: numbers of 128 bits ask for the most.
const ALIGNMENT: usize = 16;

/// The memory of the module.
#[derive(Debug)]
struct Heap {
    tlsf: Tlsf,
    spare: [Spare; SIZES],
}

/// Blocks of one size that nobody owns, the one that was given back last in front: it is still in the cache.
#[derive(Debug)]
struct Spare {
    first: Option<NonNull<Link>>,
    count: u32,
}

impl Spare {
    const EMPTY: Self = Self { first: None, count: 0 };
}

/// What stands in a block that nobody owns.
#[derive(Debug)]
struct Link {
    next: Option<NonNull<Self>>,
}

/// The number of a small block's size, and its bytes; `None` for what goes to TLSF directly. Every allocation asks, and
/// a pair would be returned by way of memory.
#[inline]
fn small_size(layout: Layout) -> Option<(usize, usize)> {
    let last = layout.size().checked_sub(1).filter(|last| *last < SMALL_BYTES_MAX && layout.align() <= ALIGNMENT)?;
    if last < FINE_BYTES_MAX {
        let number = last / FINE_STEP_BYTES;
        return Some((number, (number + 1) * FINE_STEP_BYTES));
    }
    let quarter = last.ilog2() - 2;
    let step = (last >> quarter) & 3;
    let doubling = (quarter + 2 - FINE_BYTES_MAX.ilog2()) as usize;
    Some((FINE_SIZES + doubling * 4 + step, (step + 5) << quarter))
}

impl Heap {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let Some((number, bytes)) = small_size(layout) else { return self.tlsf.allocate(layout) };
        let spare = self.spare.get_mut(number)?;
        let Some(block) = spare.first else {
            return self.tlsf.allocate(Layout::from_size_align(bytes, ALIGNMENT).ok()?);
        };
        // SAFETY: a block on the list is nobody's, and `give_back` wrote a link into it.
        spare.first = unsafe { block.as_ref() }.next;
        spare.count -= 1;
        Some(block.cast())
    }

    /// # Safety
    /// The block is one that [`Heap::allocate`] gave for this layout, and its owner uses it no more.
    unsafe fn give_back(&mut self, block: NonNull<u8>, layout: Layout) {
        let Some(spare) = small_size(layout).and_then(|(number, _)| self.spare.get_mut(number)) else {
            // SAFETY: TLSF gave the block, with this alignment.
            return unsafe { self.tlsf.deallocate(block, layout.align()) };
        };
        if spare.count >= SPARE_MAX {
            // SAFETY: TLSF gave the block, with the alignment of all small ones.
            return unsafe { self.tlsf.deallocate(block, ALIGNMENT) };
        }
        let link = block.cast::<Link>();
        // SAFETY: the smallest size has room for a link, and blocks are aligned for one.
        unsafe { link.write(Link { next: spare.first }) };
        spare.first = Some(link);
        spare.count += 1;
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
