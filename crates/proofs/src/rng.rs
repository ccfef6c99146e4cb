//! Lets the arkworks crates, which are at an older `rand`, draw from ours.

use rand::{CryptoRng, RngCore};

pub(crate) struct ArkRng<'a, R>(pub(crate) &'a mut R);

impl<R: RngCore + CryptoRng> ark_std::rand::RngCore for ArkRng<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), ark_std::rand::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: RngCore + CryptoRng> ark_std::rand::CryptoRng for ArkRng<'_, R> {}
