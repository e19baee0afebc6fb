//! How much the host holds us up: a thread that wants to run every two milliseconds, and notes when it did not.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Clock;
use crate::capture::Noise;

const PERIOD: Duration = Duration::from_millis(2);

/// A running gauge.
pub(crate) struct Gauge {
    noise: Arc<Mutex<Noise>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gauge {
    pub(crate) fn start(clock: Clock) -> io::Result<Gauge> {
        let noise = Arc::new(Mutex::new(Noise::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("lab-gauge".to_owned())
            .spawn({
                let (noise, ending) = (Arc::clone(&noise), Arc::clone(&ending));
                move || {
                    while !ending.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        std::thread::park_timeout(PERIOD);
                        let stall = began.elapsed().saturating_sub(PERIOD);
                        let mut noise = noise.lock().unwrap_or_else(PoisonError::into_inner);
                        if stall > noise.longest_stall {
                            noise.longest_stall = stall;
                            noise.at_ns = clock.now();
                        }
                        noise.stalls_over_20ms += u64::from(stall > Duration::from_millis(20));
                    }
                }
            })?;
        Ok(Gauge {
            noise,
            ending,
            thread: Some(thread),
        })
    }

    pub(crate) fn read(&self) -> Noise {
        *self.noise.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
