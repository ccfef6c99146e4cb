//! Wallets: who a node is, and what it has signed.
//!
//! A node's address is that of its secp256k1 key, as on Ethereum, so that what it
//! signs here can be checked by a contract.

use std::fmt;

use k256::ecdsa::{RecoveryId, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha3::{Digest as _, Keccak256};

use crate::ids::{Address, Digest, serde_bytes_array};

/// Why a key or a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no secret key: zero, or not below the curve's order.
    #[error("these 32 bytes are no secp256k1 secret key")]
    SecretKey,
    /// The signature has no valid form, or is the high-s twin of one.
    #[error("the signature is malformed")]
    Malformed,
    /// The signature is somebody else's.
    #[error("signed by {got}, expected {expected}")]
    WrongSigner {
        /// Whom the signature belongs to.
        got: Address,
        /// Who should have signed.
        expected: Address,
    },
}

/// A node's secret key. It signs deterministically (RFC 6979) and needs no randomness.
#[derive(Clone)]
pub struct Wallet {
    key: SigningKey,
    address: Address,
}

impl Wallet {
    /// The wallet of a 32-byte secret.
    ///
    /// # Errors
    /// [`IdentityError::SecretKey`] for zero and for values not below the curve's order.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, IdentityError> {
        let key = SigningKey::from_slice(secret).map_err(|_| IdentityError::SecretKey)?;
        let address = address_of(key.verifying_key());
        Ok(Self { key, address })
    }

    /// The address that this wallet signs for.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The secret, for storing it. Keep it out of logs.
    #[must_use]
    pub fn secret_bytes(&self) -> [u8; 32] {
        self.key.to_bytes().into()
    }

    /// Signs a digest; low s, recovery id 27 or 28.
    ///
    /// # Panics
    /// Never for a digest that is a hash: signing fails only if the scalar derived from it is
    /// zero, which has a chance of 2^-256.
    #[must_use]
    pub fn sign_digest(&self, digest: &Digest) -> Signature {
        let (signature, recovery) = self
            .key
            .sign_prehash_recoverable(&digest.0)
            .expect("RFC 6979 yields a non-zero nonce for every hash that can be found");
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + recovery.to_byte();
        Signature(bytes)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address)
    }
}

/// A recoverable signature as Ethereum has it: r, s, and v in {27, 28}.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 65]);

impl Signature {
    /// The address that signed `digest`.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] if no key can have made it, or if s is high (such twins
    /// are refused, so that each signature has one form).
    pub fn recover(&self, digest: &Digest) -> Result<Address, IdentityError> {
        let signature = k256::ecdsa::Signature::from_slice(&self.0[..64])
            .map_err(|_| IdentityError::Malformed)?;
        if signature.normalize_s().is_some() {
            return Err(IdentityError::Malformed);
        }
        let recovery = self.0[64]
            .checked_sub(27)
            .filter(|v| *v < 2)
            .and_then(RecoveryId::from_byte)
            .ok_or(IdentityError::Malformed)?;
        VerifyingKey::recover_from_prehash(&digest.0, &signature, recovery)
            .map(|key| address_of(&key))
            .map_err(|_| IdentityError::Malformed)
    }

    /// Checks that `expected` signed `digest`.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] or [`IdentityError::WrongSigner`].
    pub fn verify(&self, digest: &Digest, expected: Address) -> Result<(), IdentityError> {
        let got = self.recover(digest)?;
        if got == expected {
            Ok(())
        } else {
            Err(IdentityError::WrongSigner { got, expected })
        }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..4]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("0x{}", hex::encode(self.0)))
        } else {
            serde_bytes_array::serialize(&self.0, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let mut bytes = [0; 65];
            hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(&text), &mut bytes)
                .map_err(serde::de::Error::custom)?;
            Ok(Self(bytes))
        } else {
            serde_bytes_array::deserialize(deserializer).map(Self)
        }
    }
}

/// keccak-256 of the parts, one after the other. Callers keep fields of fixed size, or
/// hash variable ones first, so that no two lists of parts run together.
#[must_use]
pub fn keccak(parts: &[&[u8]]) -> Digest {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

fn address_of(key: &VerifyingKey) -> Address {
    let point = key.to_encoded_point(false);
    // The first byte marks the uncompressed form and is not part of the hash.
    let hash = keccak(&[&point.as_bytes()[1..]]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash.0[12..]);
    Address(address)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wallet(byte: u8) -> Wallet {
        Wallet::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn address_of_the_well_known_key_one() {
        let mut secret = [0; 32];
        secret[31] = 1;
        assert_eq!(
            Wallet::from_bytes(&secret).unwrap().address().to_string(),
            "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
        );
    }

    #[test]
    fn a_signature_names_its_signer_and_only_him() {
        let digest = keccak(&[b"message"]);
        let signature = wallet(1).sign_digest(&digest);
        assert_eq!(signature.recover(&digest).unwrap(), wallet(1).address());
        assert!(matches!(
            signature.verify(&digest, wallet(2).address()),
            Err(IdentityError::WrongSigner { .. })
        ));
        assert_ne!(
            signature.recover(&keccak(&[b"other"])).ok(),
            Some(wallet(1).address())
        );
    }

    #[test]
    fn high_s_twins_and_bad_recovery_ids_are_refused() {
        let digest = keccak(&[b"message"]);
        let signature = wallet(1).sign_digest(&digest);
        let parsed = k256::ecdsa::Signature::from_slice(&signature.0[..64]).unwrap();
        let (r, s) = parsed.split_scalars();
        let twin = k256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&twin.to_bytes());
        bytes[64] = if signature.0[64] == 27 { 28 } else { 27 };
        assert_eq!(
            Signature(bytes).recover(&digest),
            Err(IdentityError::Malformed)
        );
        let mut bad = signature;
        bad.0[64] = 26;
        assert_eq!(bad.recover(&digest), Err(IdentityError::Malformed));
    }

    #[test]
    fn zero_is_no_key() {
        assert!(matches!(
            Wallet::from_bytes(&[0; 32]),
            Err(IdentityError::SecretKey)
        ));
    }
}
