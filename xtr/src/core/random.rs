//! Randomness as the core is given it.

/// A source of random numbers. Daemons use the system's cryptographic generator, tests a seeded one: nonces are the only
/// protection of Map-Replies (RFC 6830 6.1.2), so nothing weaker will do outside of tests.
pub trait Random: Send {
    /// The next 64 bits.
    fn next_u64(&mut self) -> u64;
}

impl<R: Random + ?Sized> Random for Box<R> {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// A seeded generator (SplitMix64) for tests and simulations: the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Seeded(pub u64);

impl Random for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
