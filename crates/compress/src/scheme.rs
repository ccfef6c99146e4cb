//! What a codec has to say about one block, and the loop over many that it is given in return.

use pulp::{Arch, NullaryFnOnce};

use crate::error::Flaw;

/// One codec, block by block. Implementations are marked `#[inline(always)]`: they are compiled
/// into [`Run`]'s loops, for the widest instructions that the processor has.
pub(crate) trait Scheme: Copy + Sync {
    /// Its number in the header.
    const NUMBER: u16;
    /// Values in a full block.
    const BLOCK: usize;

    /// What the loops work in, made once for a run of blocks.
    type Memory: Default;

    /// Bytes that a block of `values` values has, 1 to [`Self::BLOCK`].
    fn block_bytes(&self, values: usize) -> usize;

    /// Values kept of a full block.
    fn kept(&self) -> usize;

    /// Encodes one block into bytes of exactly its length. Total: what is not finite gives an
    /// encoding that is refused.
    fn encode_block(&self, values: &[f32], bytes: &mut [u8], memory: &mut Self::Memory);

    /// Decodes one block of exactly the length of so many values.
    fn decode_block(
        &self,
        bytes: &[u8],
        values: &mut [f32],
        memory: &mut Self::Memory,
    ) -> Result<(), Flaw>;
}

/// A codec as the callers see it: runs of blocks, of which only the last may be short.
pub(crate) trait Run: Sync {
    /// See [`Scheme::NUMBER`].
    fn number(&self) -> u16;
    /// See [`Scheme::BLOCK`].
    fn block(&self) -> usize;
    /// See [`Scheme::kept`].
    fn kept(&self) -> usize;
    /// Bytes of a run of so many values.
    fn run_bytes(&self, values: u64) -> u64;
    /// Encodes a run.
    fn encode_run(&self, values: &[f32], bytes: &mut [u8]);
    /// Decodes a run; an error comes with the block's place in it.
    fn decode_run(&self, bytes: &[u8], values: &mut [f32]) -> Result<(), (u64, Flaw)>;
}

impl<S: Scheme> Run for S {
    fn number(&self) -> u16 {
        S::NUMBER
    }

    fn block(&self) -> usize {
        S::BLOCK
    }

    fn kept(&self) -> usize {
        Scheme::kept(self)
    }

    fn run_bytes(&self, values: u64) -> u64 {
        let (blocks, rest) = (values / S::BLOCK as u64, values % S::BLOCK as u64);
        let last = match rest {
            0 => 0,
            rest => self.block_bytes(rest as usize),
        };
        blocks * self.block_bytes(S::BLOCK) as u64 + last as u64
    }

    fn encode_run(&self, values: &[f32], bytes: &mut [u8]) {
        let scheme = *self;
        Arch::new().dispatch(Encode {
            scheme,
            values,
            bytes,
        });
    }

    fn decode_run(&self, bytes: &[u8], values: &mut [f32]) -> Result<(), (u64, Flaw)> {
        let scheme = *self;
        Arch::new().dispatch(Decode {
            scheme,
            bytes,
            values,
        })
    }
}

/// Not a closure: the compiler does not inline those into code for other instructions.
struct Encode<'a, S> {
    scheme: S,
    values: &'a [f32],
    bytes: &'a mut [u8],
}

impl<S: Scheme> NullaryFnOnce for Encode<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut memory = S::Memory::default();
        let blocks = self
            .bytes
            .chunks_mut(self.scheme.block_bytes(S::BLOCK))
            .zip(self.values.chunks(S::BLOCK));
        for (bytes, values) in blocks {
            self.scheme.encode_block(values, bytes, &mut memory);
        }
    }
}

struct Decode<'a, S> {
    scheme: S,
    bytes: &'a [u8],
    values: &'a mut [f32],
}

impl<S: Scheme> NullaryFnOnce for Decode<'_, S> {
    type Output = Result<(), (u64, Flaw)>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let mut memory = S::Memory::default();
        let blocks = self
            .bytes
            .chunks(self.scheme.block_bytes(S::BLOCK))
            .zip(self.values.chunks_mut(S::BLOCK));
        for ((bytes, values), block) in blocks.zip(0..) {
            self.scheme
                .decode_block(bytes, values, &mut memory)
                .map_err(|flaw| (block, flaw))?;
        }
        Ok(())
    }
}
