//! Solidity's `abi.encode` of the static types that are hashed on both sides: one 32-byte word
//! each.

use crate::identity::keccak;
use crate::ids::{Address, Digest};

/// One word.
pub type Word = [u8; 32];

/// An unsigned number.
#[must_use]
pub fn number(value: impl Into<u128>) -> Word {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.into().to_be_bytes());
    word
}

/// An address.
#[must_use]
pub fn address(address: Address) -> Word {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

/// keccak256 of a tag, as contracts write it: `keccak256("convoke.…")`.
#[must_use]
pub fn tag(text: &str) -> Word {
    keccak(&[text.as_bytes()]).0
}

/// keccak256 of keccak256 of the words: no inner node of a Merkle tree can pass for it.
#[must_use]
pub fn double_hash(words: &[Word]) -> Digest {
    let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
    keccak(&[&keccak(&words).0])
}
