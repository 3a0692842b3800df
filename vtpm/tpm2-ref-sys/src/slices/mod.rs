//! Work in slices: on a stack of its own, which its owner leaves and comes back to.
//!
//! A command may take seconds, and the processor that runs it has other things to do. [`Fiber`] runs work, such as a
//! command, on a stack of its own. When the slice is over, the next call of certain functions of OpenSSL (`build/hooks.rs`
//! lists them) leaves that stack for the caller of [`Fiber::go_on`], who comes back to the same place when there is time
//! again, on whichever processor.
//!
//! Only work that runs on the fiber's stack can be left: `hooks` looks at the stack pointer first. Nothing is
//! left while it holds a lock, for no function of the list is called with one.

mod hooks;
mod stack;
mod switch;

use alloc::boxed::Box;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

pub use self::stack::Stack;
pub use self::switch::{tsc, yield_now};

/// There is one: the places that `hooks` looks at are static.
static EXISTS: AtomicBool = AtomicBool::new(false);

/// A value that is worked on in slices, and the stack for it. There is one in a process.
pub struct Fiber<T> {
    value: NonNull<T>,
    stack: Stack,
    /// The stack pointer of work that was left.
    left: Option<NonZeroUsize>,
}

// SAFETY: the value is owned and `Send`. Work that was left is frames of functions between `Fiber::start`'s `work` and a
// function of `hooks`: those of the engine, whose C code keeps nothing of a thread's but its stack guard (the same on every
// processor: see the crate's documentation), and of its callers, which have no values of a thread's or a processor's.
unsafe impl<T: Send> Send for Fiber<T> {}

impl<T: Send> Fiber<T> {
    /// With `value` to work on. `None` while there is another fiber.
    pub fn new(value: T, mut stack: Stack) -> Option<Self> {
        EXISTS
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        stack.paint();
        switch::set_stack(stack.bottom(), stack.size());
        Some(Self {
            value: NonNull::from(Box::leak(Box::new(value))),
            stack,
            left: None,
        })
    }

    /// Whether work was left that is not done.
    pub const fn is_busy(&self) -> bool {
        self.left.is_some()
    }

    /// The value, unless work on it was left.
    pub fn value(&self) -> Option<&T> {
        if self.is_busy() {
            return None;
        }
        // SAFETY: from a box of this fiber's own; nobody works on it, which would borrow it.
        Some(unsafe { self.value.as_ref() })
    }

    /// As [`value`](Self::value), to change it.
    pub fn value_mut(&mut self) -> Option<&mut T> {
        if self.is_busy() {
            return None;
        }
        // SAFETY: as in `value`.
        Some(unsafe { self.value.as_mut() })
    }

    /// Begins `work`, up to `until` on the TSC or a little later. Whether it is done; if not, [`go_on`](Self::go_on).
    /// Work that was left is done first, to its end.
    pub fn start(&mut self, work: fn(&mut T), until: u64) -> bool {
        self.finish();
        // SAFETY: no work is left, so the stack is free; value and stack live until it is done (see `drop`), and nobody
        // else reaches the value meanwhile.
        let frame = unsafe { switch::prepare(&mut self.stack, self.value, work) };
        self.enter(frame, until)
    }

    /// Goes on with work that was left, up to `until` on the TSC or a little later. Whether none is left.
    pub fn go_on(&mut self, until: u64) -> bool {
        match self.left.take() {
            Some(left) => self.enter(left, until),
            None => true,
        }
    }

    /// Does what was left to its end. The value.
    pub fn finish(&mut self) -> &mut T {
        while !self.go_on(u64::MAX) {}
        // SAFETY: as in `value`: nothing is left.
        unsafe { self.value.as_mut() }
    }

    fn enter(&mut self, stack_pointer: NonZeroUsize, until: u64) -> bool {
        // SAFETY: made by `prepare`, or by the work that was left, on this fiber's stack, and used once.
        self.left = unsafe { switch::enter(stack_pointer, until) };
        self.stack.check();
        self.left.is_none()
    }

    /// The most of the stack that was ever in use, in bytes.
    pub fn stack_used(&self) -> usize {
        self.stack.used()
    }
}

impl<T> Drop for Fiber<T> {
    /// Work is not torn: it comes to its end.
    fn drop(&mut self) {
        while let Some(left) = self.left.take() {
            // SAFETY: as in `enter`.
            self.left = unsafe { switch::enter(left, u64::MAX) };
        }
        switch::set_stack(0, 0);
        // SAFETY: from the box that `new` leaked; nobody works on it any more.
        drop(unsafe { Box::from_raw(self.value.as_ptr()) });
        EXISTS.store(false, Ordering::Release);
    }
}
