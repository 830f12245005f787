//! A stream whose writes wait only so long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::places::Place;

/// A stream whose writes fail when the other side takes nothing for too long. A client that stops
/// reading would else hold its place for ever.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    stall: Duration,
    since: Option<Pin<Box<Sleep>>>,
    /// Free again when nobody has the stream any more, also past an upgrade.
    _place: Option<Place>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, stall: Duration, place: impl Into<Option<Place>>) -> Self {
        Self {
            stream,
            stall,
            since: None,
            _place: place.into(),
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.since = None;
            return polled;
        }
        let stall = self.stall;
        let since = self
            .since
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + stall)));
        match since.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let mut patient = Patient::new(near, Duration::from_secs(30), None);
        let started = Instant::now();
        let ended = patient.write_all(b"more than fits").await;
        assert_eq!(ended.expect_err("given up").kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_not() {
        use tokio::io::AsyncReadExt as _;
        let (near, mut far) = tokio::io::duplex(1);
        let mut patient = Patient::new(near, Duration::from_secs(30), None);
        let reader = tokio::spawn(async move {
            let mut taken = [0; 4];
            for byte in &mut taken {
                tokio::time::sleep(Duration::from_secs(29)).await;
                *byte = far.read_u8().await.expect("a byte");
            }
            taken
        });
        patient.write_all(b"slow").await.expect("taken in the end");
        assert_eq!(&reader.await.expect("no panic"), b"slow");
    }
}
