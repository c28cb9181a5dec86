//! The thread pool behind [`crate::parallel`]: one worker per core, for kernels of a tenth of a millisecond.
//!
//! A training step runs thousands of short parallel sections, so a worker spins for a moment before it sleeps, and the
//! calling thread takes tasks too. Only one section runs at a time; a second caller, or a section inside a section,
//! runs its tasks on its own thread. What this is not: a scheduler (no queues, no work stealing, no futures).

use std::{
    any::Any,
    cell::UnsafeCell,
    hint,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Condvar, Mutex, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

/// Iterations that a worker spins before it sleeps, about a tenth of a millisecond.
const SPINS: u32 = 4000;

/// Bits of the gate: the number of workers inside the current section, whether workers may enter it, and its number.
const INSIDE: u64 = OPEN - 1;
const OPEN: u64 = 1 << 16;
const NUMBER: u64 = 1 << 32;

/// A value alone on its cache line.
#[repr(align(128))]
struct CachePadded<T>(T);

/// One parallel section: the tasks `0..count`.
#[derive(Clone, Copy)]
struct Section {
    task: *const (dyn Fn(usize) + Sync),
    count: usize,
}

pub(crate) struct Pool {
    workers: usize,
    gate: CachePadded<AtomicU64>,
    /// The next task.
    next: CachePadded<AtomicUsize>,
    section: UnsafeCell<Option<Section>>,
    /// Locked by the caller whose section runs.
    owner: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Number of sleeping workers.
    asleep: AtomicUsize,
    sleepers: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `section` is written only by the owner while no worker is inside, and read only by workers inside;
// the gate orders the two. What it points to is Sync and outlives the section.
unsafe impl Sync for Pool {}
// SAFETY: as above; the pointer is never dropped through.
unsafe impl Send for Pool {}

impl Pool {
    /// The pool of the process, started on first use.
    pub(crate) fn global() -> &'static Self {
        static POOL: OnceLock<&'static Pool> = OnceLock::new();
        POOL.get_or_init(|| {
            let pool: &'static Self = Box::leak(Box::new(Self::new(wanted_threads() - 1)));
            for index in 0..pool.workers {
                // without this thread the pool is only slower
                let _ = thread::Builder::new()
                    .name(format!("kernels-{index}"))
                    .spawn(|| pool.work());
            }
            pool
        })
    }

    fn new(workers: usize) -> Self {
        Self {
            workers,
            gate: CachePadded(AtomicU64::new(0)),
            next: CachePadded(AtomicUsize::new(0)),
            section: UnsafeCell::new(None),
            owner: Mutex::new(()),
            panic: Mutex::new(None),
            asleep: AtomicUsize::new(0),
            sleepers: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Threads that work on a section, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.workers + 1
    }

    /// Runs `task(i)` for every `i < count`; returns when all are done.
    ///
    /// # Panics
    /// With the panic of a task, after all threads have left the section.
    pub(crate) fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let owner = match self.owner.try_lock() {
            Ok(owner) => owner,
            // a caller's task panicked once; the section it left is closed
            Err(TryLockError::Poisoned(owner)) => owner.into_inner(),
            // another caller's section is running, or this is one of its tasks
            Err(TryLockError::WouldBlock) => return (0..count).for_each(task),
        };
        // SAFETY: only the lifetime is erased; no thread uses the pointer after `Closing` is dropped below.
        let erased = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(task)
        };
        // SAFETY: this thread owns the pool and the gate is closed, so no worker reads the section.
        unsafe { *self.section.get() = Some(Section { task: erased, count }) };
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.next.0.store(0, Ordering::Relaxed);
        let number = (self.gate.0.load(Ordering::Relaxed) & !(NUMBER - 1)).wrapping_add(NUMBER);
        self.gate.0.store(number | OPEN, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            drop(self.sleepers.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
        {
            let _closing = Closing(self);
            self.take(count, task);
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(owner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Takes tasks until none is left.
    fn take(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        loop {
            let index = self.next.0.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            task(index);
        }
    }

    /// The loop of a worker thread.
    fn work(&self) {
        let mut seen = 0;
        loop {
            let gate = self.wait(seen);
            seen = gate & !(NUMBER - 1);
            if !self.enter(seen) {
                continue;
            }
            // SAFETY: this worker is inside, so the owner neither changes the section nor returns.
            let section = unsafe { *self.section.get() };
            if let Some(Section { task, count }) = section {
                // SAFETY: as above; the task lives until the owner has seen this worker leave.
                let task = unsafe { &*task };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take(count, task))) {
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Enters section `number` if it may still be entered.
    fn enter(&self, number: u64) -> bool {
        self.gate
            .0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |gate| {
                (gate & OPEN != 0 && gate & !(NUMBER - 1) == number).then_some(gate + 1)
            })
            .is_ok()
    }

    /// Waits for an open section other than `seen`: spins, then sleeps.
    fn wait(&self, seen: u64) -> u64 {
        let fresh = |gate: u64| gate & OPEN != 0 && gate & !(NUMBER - 1) != seen;
        for _ in 0..SPINS {
            let gate = self.gate.0.load(Ordering::Relaxed);
            if fresh(gate) {
                return gate;
            }
            hint::spin_loop();
        }
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        loop {
            let gate = self.gate.0.load(Ordering::SeqCst);
            if fresh(gate) {
                self.asleep.fetch_sub(1, Ordering::SeqCst);
                return gate;
            }
            sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Closes the gate and waits until every worker has left, even if the caller's own task panics.
struct Closing<'a>(&'a Pool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let gate = &self.0.gate.0;
        // after a panic the remaining tasks are dropped
        self.0.next.0.store(usize::MAX / 2, Ordering::Relaxed);
        gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0u32;
        while gate.load(Ordering::Acquire) & INSIDE != 0 {
            looks += 1;
            if looks.is_multiple_of(SPINS) {
                // a worker may not be scheduled right now
                thread::yield_now();
            } else {
                hint::spin_loop();
            }
        }
    }
}

/// The value of `SYNAPSE_THREADS`, or one thread per core if it is not set.
///
/// # Errors
/// The value is not a positive whole number.
pub fn threads_from_environment() -> Result<usize, String> {
    let Ok(asked) = std::env::var("SYNAPSE_THREADS") else {
        return Ok(thread::available_parallelism().map_or(1, usize::from));
    };
    match asked.parse() {
        Ok(count) if (1..=INSIDE as usize).contains(&count) => Ok(count),
        _ => Err(format!(
            "SYNAPSE_THREADS={asked} is not a number of threads; set a whole number from 1 on, or unset it for one thread per core"
        )),
    }
}

/// Same as [`threads_from_environment`]; programs refuse a wrong value before the pool starts.
fn wanted_threads() -> usize {
    threads_from_environment().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use std::sync::atomic::AtomicU32;

    use super::*;

    fn pool(workers: usize) -> &'static Pool {
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(workers)));
        for _ in 0..workers {
            thread::spawn(|| pool.work());
        }
        pool
    }

    #[test]
    fn every_task_runs_once() {
        let pool = pool(3);
        for round in 0..2000 {
            let runs: Vec<AtomicU32> = (0..round % 40).map(|_| AtomicU32::new(0)).collect();
            pool.run(runs.len(), &|index| {
                runs[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|run| run.load(Ordering::Relaxed) == 1), "round {round}");
            if round % 500 == 0 {
                // long enough for the workers to fall asleep
                thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    #[test]
    fn several_callers_and_sections_in_sections() {
        let pool = pool(2);
        let sum = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(5, &|_| {
                            pool.run(3, &|_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 200 * 15);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_keeps_working() {
        let pool = pool(2);
        for bad in [0, 7] {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                pool.run(16, &|index| assert!(index != bad, "task {index}"));
            }));
            assert!(panic.unwrap_err().downcast_ref::<String>().unwrap().starts_with("task"));
        }
        let sum = AtomicU32::new(0);
        pool.run(100, &|_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 100);
    }
}
