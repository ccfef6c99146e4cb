//! The small fixed messages around a blob's bytes.

use convoke_protocol::identity::{IdentityError, Signature, Wallet, keccak};
use convoke_protocol::ids::{Address, BlobHash, Digest};
use quinn::{RecvStream, SendStream};

use crate::error::{TransportError, printable};

/// What a blob stream begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Send me the blob from this offset on.
    Fetch { blob: BlobHash, offset: u64 },
    /// I want to send you the blob, which has this length.
    Push { blob: BlobHash, length: u64 },
}

pub(super) const REQUEST_BYTES: usize = 1 + 32 + 8;
const FETCH: u8 = 1;
const PUSH: u8 = 2;

const OK: u8 = 0;
const REFUSED: u8 = 1;
const REASON_BYTES_MAX: usize = 255;

impl Request {
    pub(super) fn encode(self) -> [u8; REQUEST_BYTES] {
        let (kind, blob, number) = match self {
            Self::Fetch { blob, offset } => (FETCH, blob, offset),
            Self::Push { blob, length } => (PUSH, blob, length),
        };
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0] = kind;
        bytes[1..33].copy_from_slice(&blob.0);
        bytes[33..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; REQUEST_BYTES]) -> Option<Self> {
        let mut blob = [0; 32];
        blob.copy_from_slice(&bytes[1..33]);
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[33..]);
        let (blob, number) = (BlobHash(blob), u64::from_le_bytes(number));
        match bytes[0] {
            FETCH => Some(Self::Fetch {
                blob,
                offset: number,
            }),
            PUSH => Some(Self::Push {
                blob,
                length: number,
            }),
            _ => None,
        }
    }
}

/// Says that the request is granted, with `body`.
pub(super) async fn grant(stream: &mut SendStream, body: &[u8]) -> Result<(), TransportError> {
    stream.write_all(&[OK]).await?;
    Ok(stream.write_all(body).await?)
}

/// Says that the request is refused, and why.
pub(super) async fn refuse(stream: &mut SendStream, reason: &str) -> Result<(), TransportError> {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = vec![REFUSED, u8::try_from(end).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(&reason.as_bytes()[..end]);
    stream.write_all(&bytes).await?;
    let _ = stream.finish();
    Ok(())
}

/// Reads an answer with a body of `N` bytes.
pub(super) async fn answer<const N: usize>(
    blob: BlobHash,
    stream: &mut RecvStream,
) -> Result<[u8; N], TransportError> {
    let mut status = [0];
    stream.read_exact(&mut status).await?;
    match status[0] {
        OK => {
            let mut body = [0; N];
            stream.read_exact(&mut body).await?;
            Ok(body)
        }
        REFUSED => {
            let mut length = [0];
            stream.read_exact(&mut length).await?;
            let mut reason = vec![0; usize::from(length[0])];
            stream.read_exact(&mut reason).await?;
            let reason = printable(&reason);
            Err(TransportError::BlobRefused { blob, reason })
        }
        other => {
            let reason = format!("unknown answer {other}");
            Err(TransportError::BlobProtocol { blob, reason })
        }
    }
}

/// The receiver's signed word that it has a blob from a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Which blob.
    pub blob: BlobHash,
    /// Its length in bytes.
    pub length: u64,
    /// Who sent it.
    pub sender: Address,
    /// Who has it.
    pub receiver: Address,
    /// The receiver's signature.
    pub signature: Signature,
}

impl Receipt {
    pub(super) fn sign(blob: BlobHash, length: u64, sender: Address, wallet: &Wallet) -> Self {
        let signature = wallet.sign_digest(&statement(&blob, length, sender));
        Self {
            blob,
            length,
            sender,
            receiver: wallet.address(),
            signature,
        }
    }

    /// Checks the receiver's signature.
    ///
    /// # Errors
    /// [`IdentityError`] if the receiver has not signed this.
    pub fn verify(&self) -> Result<(), IdentityError> {
        self.signature.verify(
            &statement(&self.blob, self.length, self.sender),
            self.receiver,
        )
    }
}

fn statement(blob: &BlobHash, length: u64, sender: Address) -> Digest {
    keccak(&[
        b"convoke.receipt.v1",
        &blob.0,
        &length.to_be_bytes(),
        &sender.0,
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_request_decodes_to_itself_or_to_nothing(bytes in any::<[u8; 32]>(), kind: u8, number: u64) {
            let mut request = [0; REQUEST_BYTES];
            request[0] = kind;
            request[1..33].copy_from_slice(&bytes);
            request[33..].copy_from_slice(&number.to_le_bytes());
            match Request::decode(&request) {
                Some(decoded) => prop_assert_eq!(decoded.encode(), request),
                None => prop_assert!(kind != FETCH && kind != PUSH),
            }
        }
    }

    #[test]
    fn a_receipt_names_blob_length_and_sender() {
        let wallet = Wallet::from_bytes(&[1; 32]).unwrap();
        let receipt = Receipt::sign(BlobHash([2; 32]), 3, Address([4; 20]), &wallet);
        receipt.verify().unwrap();
        assert!(
            Receipt {
                length: 4,
                ..receipt
            }
            .verify()
            .is_err()
        );
        assert!(
            Receipt {
                sender: Address([5; 20]),
                ..receipt
            }
            .verify()
            .is_err()
        );
        assert!(
            Receipt {
                blob: BlobHash([5; 32]),
                ..receipt
            }
            .verify()
            .is_err()
        );
    }
}
