//! Memory of large tables: large pages, and fetching ahead.
//!
//! With a million prefixes nearly every access goes to another page, and finding the page costs more than reading it. Most
//! distributions give large pages only to memory that asks for them (`madvise` in
//! `/sys/kernel/mm/transparent_hugepage/enabled`).

use std::alloc::{GlobalAlloc, Layout, System};

/// Size of a large page in octets where Linux runs most; elsewhere the wish does no harm.
const LARGE: usize = 2 << 20;

/// The system's allocator, which asks for large pages for what is at least as large as one.
#[derive(Debug, Clone, Copy, Default)]
pub struct LargePages;

/// The layout with which the system's allocator is asked: large ones begin with a page.
fn aligned(layout: Layout) -> Layout {
    if layout.size() < LARGE {
        return layout;
    }
    layout.align_to(LARGE).unwrap_or(layout)
}

// SAFETY: everything is the system allocator's, which is asked and given back to with the same layout, a function of the
// caller's. `aligned` never lowers the alignment. `realloc` is the trait's own, which allocates, copies and frees, except
// among small layouts, which are the caller's own.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let layout = aligned(layout);
        // SAFETY: the caller gave a layout of non-zero size, and `aligned` keeps the size.
        let memory = unsafe { System.alloc(layout) };
        if layout.size() >= LARGE && !memory.is_null() {
            // SAFETY: the range is of the allocation just made. The advice changes no content; a refusal changes nothing.
            unsafe { libc::madvise(memory.cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `alloc` with the layout that `aligned` makes of this one.
        unsafe { System.dealloc(memory, aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() < LARGE {
            // SAFETY: as the caller's.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller's; on success there are as many octets to write as the layout says.
        unsafe {
            let memory = self.alloc(layout);
            if !memory.is_null() {
                memory.write_bytes(0, layout.size());
            }
            memory
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() < LARGE && size < LARGE {
            // SAFETY: the memory came from the system's allocator with this layout.
            return unsafe { System.realloc(memory, layout, size) };
        }
        // SAFETY: the caller warrants that `size` is not zero and does not overflow with the layout's alignment. Both
        // allocations are valid for the octets that are copied, and are different ones.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(memory, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

/// Asks the processor to fetch a value's memory, and goes on without waiting for it. It changes nothing but time.
///
/// Processors other than x86-64 fetch when the value is read.
pub(crate) fn fetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = (&raw const *value).cast::<i8>();
        let size = size_of_val(value);
        // A value can begin inside a line, and then reaches into one more than its size says.
        let first = CACHE_LINE - start.addr() % CACHE_LINE;
        let lines = (first..size).step_by(CACHE_LINE);
        for offset in (0..size.min(1)).chain(lines) {
            // SAFETY: the address lies inside the value; the instruction neither faults nor changes anything.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Octets that an x86-64 processor fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_and_shrinks_keeps_its_content() {
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let sizes = [100, LARGE - 1, LARGE, 3 * LARGE + 5, LARGE + 1, 64];
        // SAFETY: sizes are not zero; each pointer is used with the layout that it was last given, within its size.
        unsafe {
            let mut memory = LargePages.alloc_zeroed(layout(2 * LARGE));
            assert!((0..2 * LARGE).all(|at| *memory.add(at) == 0));
            LargePages.dealloc(memory, layout(2 * LARGE));
            memory = LargePages.alloc(layout(50));
            memory.write_bytes(7, 50);
            let mut size = 50;
            for next in sizes {
                memory = LargePages.realloc(memory, layout(size), next);
                size = next;
                assert!((0..50).all(|at| *memory.add(at) == 7), "{size} octets");
                assert!(size < LARGE || memory.addr() % LARGE == 0);
            }
            LargePages.dealloc(memory, layout(size));
        }
    }
}
