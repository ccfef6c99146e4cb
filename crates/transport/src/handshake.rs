//! The proof of identity, on the connection's first stream.
//!
//! ```text
//! client                                   server
//!  open stream; version, address, sig  ───▶
//!                                      ◀───  version, address, sig
//! ```
//! Each signs `keccak("convoke.identity.v1", side, exporter)`, where the exporter is key
//! material of this TLS session (RFC 5705) that nobody else can have. A signature from another
//! session, or one's own sent back, therefore proves nothing. The address is sent, too, because
//! from any signature some address is recovered: only one that was named beforehand is proven.
//! The stream then carries messages.

use convoke_protocol::identity::{Signature, Wallet, keccak};
use convoke_protocol::ids::{Address, Digest};
use convoke_protocol::message::PROTOCOL_VERSION;
use quinn::{RecvStream, SendStream};

use crate::error::{TransportError, close};
use crate::limits::Limits;

/// What both ends must name in the TLS handshake.
pub const ALPN: &[u8] = b"convoke/1";

const EXPORTER_LABEL: &[u8] = b"EXPORTER-convoke-identity-v1";

/// Address, then signature.
const PROOF_BYTES: usize = 20 + 65;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client = 0,
    Server = 1,
}

/// The client's part: proves our address first, so that a server need not show its own to
/// just anyone.
pub(crate) async fn prove_as_client(
    connection: &quinn::Connection,
    wallet: &Wallet,
    expected: Option<Address>,
    limits: &Limits,
) -> Result<(Address, SendStream, RecvStream), TransportError> {
    let talk = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&proof(connection, wallet, Side::Client)?)
            .await?;
        let peer = check(connection, &mut receive, Side::Server, wallet.address()).await?;
        if let Some(expected) = expected.filter(|expected| *expected != peer) {
            return Err(TransportError::WrongPeer {
                got: peer,
                expected,
            });
        }
        Ok((peer, send, receive))
    };
    bounded(connection, limits, talk).await
}

/// The server's part.
pub(crate) async fn prove_as_server(
    connection: &quinn::Connection,
    wallet: &Wallet,
    limits: &Limits,
) -> Result<(Address, SendStream, RecvStream), TransportError> {
    let talk = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let peer = check(connection, &mut receive, Side::Client, wallet.address()).await?;
        send.write_all(&proof(connection, wallet, Side::Server)?)
            .await?;
        Ok((peer, send, receive))
    };
    bounded(connection, limits, talk).await
}

/// Runs the exchange within its time, and tells the peer why if it fails.
async fn bounded<T>(
    connection: &quinn::Connection,
    limits: &Limits,
    talk: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    let Ok(outcome) = tokio::time::timeout(limits.handshake_timeout, talk).await else {
        connection.close(close::IDENTITY_TIMEOUT, b"no proof of identity in time");
        return Err(TransportError::IdentityTimeout);
    };
    if let Err(error) = &outcome
        && connection.close_reason().is_none()
    {
        let (code, reason) = match error {
            TransportError::Incompatible { .. } => (
                close::VERSION,
                format!("version {PROTOCOL_VERSION} is needed"),
            ),
            other => (close::IDENTITY, other.to_string()),
        };
        connection.close(code, reason.as_bytes());
    }
    outcome
}

fn proof(
    connection: &quinn::Connection,
    wallet: &Wallet,
    side: Side,
) -> Result<Vec<u8>, TransportError> {
    let signature = wallet.sign_digest(&statement(connection, side)?);
    let version = PROTOCOL_VERSION.to_le_bytes();
    Ok([&version[..], &wallet.address().0, &signature.0].concat())
}

/// Reads the other side's proof: the address that it proves, which must not be our own, since
/// nobody but ourselves could have signed for that.
async fn check(
    connection: &quinn::Connection,
    receive: &mut RecvStream,
    side: Side,
    ours: Address,
) -> Result<Address, TransportError> {
    // On its own: what follows may have another length in another version.
    let mut version = [0; 2];
    receive.read_exact(&mut version).await?;
    let version = u16::from_le_bytes(version);
    if version != PROTOCOL_VERSION {
        let reason = format!("it has version {version}, ours is {PROTOCOL_VERSION}");
        return Err(TransportError::Incompatible {
            ours: "convoke/1",
            reason,
        });
    }
    let mut bytes = [0; PROOF_BYTES];
    receive.read_exact(&mut bytes).await?;
    let (mut address, mut signature) = (Address([0; 20]), Signature([0; 65]));
    address.0.copy_from_slice(&bytes[..20]);
    signature.0.copy_from_slice(&bytes[20..]);
    signature
        .verify(&statement(connection, side)?, address)
        .map_err(|error| TransportError::Identity(error.to_string()))?;
    if address == ours {
        return Err(TransportError::Identity("it claims to be ourselves".into()));
    }
    Ok(address)
}

fn statement(connection: &quinn::Connection, side: Side) -> Result<Digest, TransportError> {
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, ALPN)
        .map_err(|_| TransportError::Identity("the session exports no key material".into()))?;
    Ok(keccak(&[b"convoke.identity.v1", &[side as u8], &exporter]))
}
