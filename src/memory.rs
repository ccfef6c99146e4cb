//! The allocator of the whole process, and what it does with memory that is freed.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// From now on memory that is freed stays with the process, for the next step of a training, which
/// wants as much again: else the system takes it back and clears it anew each time, which costs
/// a tenth of the time. The process shrinks no more.
#[allow(unsafe_code)]
pub(crate) fn keep_freed() {
    // SAFETY: the function sets an atomic number and may be called at any time from any thread;
    // -1 is among the documented values of this option.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

/// `mi_option_purge_delay` of mimalloc.h, in milliseconds; -1 is never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
