//! Randomness of the operating system.

use std::fs::File;
use std::io::Read;

use daemon::Failure;

use crate::core::Random;

const DEVICE: &str = "/dev/urandom";

/// The system's cryptographic generator, read in blocks.
pub(crate) struct System {
    device: File,
    block: [u8; 1024],
    used: usize,
}

impl System {
    pub(crate) fn open() -> Result<Self, Failure> {
        let tried = || format!("opening {DEVICE} for nonces");
        let device = File::open(DEVICE).map_err(|e| Failure::host(tried(), e))?;
        let mut system = Self {
            device,
            block: [0; 1024],
            used: 0,
        };
        system.refill().map_err(|e| Failure::host(tried(), e))?;
        Ok(system)
    }

    fn refill(&mut self) -> std::io::Result<()> {
        self.device.read_exact(&mut self.block)?;
        self.used = 0;
        Ok(())
    }
}

impl Random for System {
    fn next_u64(&mut self) -> u64 {
        if self.used + 8 > self.block.len() {
            self.refill()
                .expect("the kernel's generator never fails once it could be read");
        }
        let mut word = [0; 8];
        word.copy_from_slice(&self.block[self.used..self.used + 8]);
        // A nonce that was given out is forgotten here.
        self.block[self.used..self.used + 8].fill(0);
        self.used += 8;
        u64::from_ne_bytes(word)
    }
}
