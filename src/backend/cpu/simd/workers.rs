//! Who computes a program's steps: the caller alone, or the threads of its device; and what each thread keeps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::packed::Lines;

/// The threads of a device, and what one program needs on each.
pub struct Workers {
    pool: Option<Arc<ThreadPool>>,
    scratch: Vec<Mutex<Scratch>>,
    runs: AtomicU64,
}

/// One thread's own memory.
pub struct Scratch {
    /// Input rows with their padding.
    pub padded: Lines,
    /// Where the input under each row of the band begins.
    pub starts: Vec<usize>,
    /// Which run and band `padded` and `starts` belong to, so that the next panels of a band need no second copy.
    pub holds: (u64, usize),
}

impl Workers {
    /// For programs whose convolutions need at most `scratch_len` elements; without a pool they run in the caller.
    pub fn new(pool: Option<Arc<ThreadPool>>, scratch_len: usize) -> Self {
        let threads = pool.as_ref().map_or(1, |p| p.current_num_threads());
        let scratch = || {
            Mutex::new(Scratch {
                padded: Lines::zeroed(scratch_len),
                starts: Vec::new(),
                holds: (0, 0),
            })
        };
        Self {
            pool,
            scratch: (0..threads).map(|_| scratch()).collect(),
            runs: AtomicU64::new(0),
        }
    }

    /// Calls `work` with the index of each chunk of `items` and the chunk, on the threads of this program only.
    pub fn for_each_chunk<T: Send>(
        &self,
        items: &mut [T],
        len: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        match &self.pool {
            // Inside of `enter`, so that rayon divides it among this pool's threads.
            Some(_) => items
                .par_chunks_mut(len)
                .enumerate()
                .for_each(|(i, chunk)| work(i, chunk)),
            None => items
                .chunks_mut(len)
                .enumerate()
                .for_each(|(i, chunk)| work(i, chunk)),
        }
    }

    /// Runs all of a program's steps: what they divide among threads then needs no hand-over from outside.
    pub fn enter<R: Send>(&self, run: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(run),
            None => run(),
        }
    }

    /// Calls `work` with each task, the calling thread's memory and the number of this call.
    pub fn for_each_task<T: Sync>(&self, tasks: &[T], work: impl Fn(&T, &mut Scratch, u64) + Sync) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let one = |task: &T| {
            // Threads of the pool are numbered, and a task never waits inside, so nobody else holds the lock.
            let thread = rayon::current_thread_index().unwrap_or(0) % self.scratch.len();
            let mut scratch = self.scratch[thread]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            work(task, &mut scratch, run);
        };
        if self.pool.is_none() || tasks.len() == 1 {
            tasks.iter().for_each(one);
        } else {
            tasks.par_iter().with_max_len(1).for_each(one);
        }
    }
}
