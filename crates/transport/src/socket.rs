//! The UDP socket under an endpoint: room in its buffers for what large datagrams need, and
//! batches that the kernel takes.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use socket2::SockRef;

/// Makes a bound socket one for QUIC. Needs a tokio runtime.
pub(crate) fn wrap(socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let options = SockRef::from(&socket);
    // The kernel grants what the system allows (net.core.rmem_max); less only costs speed.
    let _ = options.set_recv_buffer_size(BUFFER_BYTES);
    let _ = options.set_send_buffer_size(BUFFER_BYTES);
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    Ok(Arc::new(Socket { inner }))
}

/// Bytes asked for in each direction. A datagram of 64 KiB takes twice its size in the kernel,
/// and sixteen peers may send a few at once; the usual 208 KiB would hold one.
const BUFFER_BYTES: usize = 4 << 20;

/// The largest UDP payload over IPv4: 65,535 bytes less the headers of IP and UDP.
pub(crate) const DATAGRAM_BYTES_MAX: u16 = 65_535 - 20 - 8;

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    /// Several datagrams go to the kernel at once, but no more than 64 KiB: it refuses them with
    /// the error of a path whose MTU is too small, which QUIC takes for loss.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size else {
            return self.inner.try_send(transmit);
        };
        for contents in batches(transmit.contents, segment) {
            // If the socket is full in between, all are sent again: the peer drops the second.
            self.inner.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size: (contents.len() > segment).then_some(segment),
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    /// The receive buffers are this number times the largest datagram, which is 64 KiB here: as
    /// much as the kernel joins, however many datagrams it has joined.
    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Whole segments, as many at a time as the kernel takes.
fn batches(contents: &[u8], segment: usize) -> impl Iterator<Item = &[u8]> {
    let segment = segment.max(1);
    let segments = (usize::from(DATAGRAM_BYTES_MAX) / segment).max(1);
    contents.chunks(segments * segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_of_whole_segments_and_fit_the_kernel() {
        let contents = vec![7; 100_000];
        for segment in [1, 1_200, 1_452, 8_952, 32_754, 60_000, 65_507] {
            let batches: Vec<_> = batches(&contents, segment).collect();
            let (last, whole) = batches.split_last().expect("there are some");
            for batch in whole {
                assert!(batch.len().is_multiple_of(segment), "{segment}");
            }
            assert!(batches.iter().all(|batch| batch.len() <= 65_507));
            assert_eq!(whole.concat().len() + last.len(), contents.len());
        }
    }
}
