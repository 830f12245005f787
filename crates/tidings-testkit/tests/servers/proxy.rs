//! The proxy: after an order it does exactly that.

use std::{io::ErrorKind, time::Duration};

use anyhow::{Context, Result, ensure};
use tidings_testkit::servers::{RedisServer, TcpProxy, wait_for};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::bounded;

#[tokio::test]
async fn the_proxy_cuts_stalls_and_heals() -> Result<()> {
    bounded(async {
        let server = RedisServer::builder().proxied().start().await?;
        let proxy = server.proxy()?;
        ensure!(server.address() == proxy.address() && server.port() != proxy.address().port());
        let mut link = TcpStream::connect(proxy.address()).await?;
        ping(&mut link).await?;
        // The answer may be here before the proxy has counted it.
        wait_for("the proxy's counts", Duration::from_secs(5), || async {
            let counts = (proxy.connections(), proxy.bytes_up(), proxy.bytes_down());
            ensure!(counts == (1, 6, 7), "{counts:?}");
            Ok(())
        })
        .await?;

        server.stall()?;
        link.write_all(b"PING\r\n").await?;
        let mut late = TcpStream::connect(proxy.address()).await?;
        late.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        for link in [&mut link, &mut late] {
            ensure!(
                timeout(Duration::from_millis(200), link.read_exact(&mut answer))
                    .await
                    .is_err()
            );
        }
        ensure!(proxy.bytes_up() == 6);
        server.heal().await?;
        for link in [&mut link, &mut late] {
            link.read_exact(&mut answer).await?;
            ensure!(&answer == b"+PONG\r\n");
        }

        server.cut().await?;
        ensure!(is_closed(&mut link).await && is_closed(&mut late).await);
        let refused = TcpStream::connect(proxy.address())
            .await
            .err()
            .context("it was accepted")?;
        ensure!(refused.kind() == ErrorKind::ConnectionRefused);
        // A stalled link can be cut too.
        server.heal().await?;
        let mut link = TcpStream::connect(proxy.address()).await?;
        ping(&mut link).await?;
        server.stall()?;
        server.cut().await?;
        ensure!(is_closed(&mut link).await);
        server.heal().await?;

        let mut link = TcpStream::connect(proxy.address()).await?;
        ping(&mut link).await?;
        server.cut_from("127.0.0.9".parse()?).await?;
        ping(&mut link).await?;
        server.cut_from("127.0.0.1".parse()?).await?;
        ensure!(is_closed(&mut link).await);
        ensure!(is_closed(&mut TcpStream::connect(proxy.address()).await?).await);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_proxy_carries_much_both_ways_and_ends_links_with_their_ends() -> Result<()> {
    bounded(async {
        // More than both sockets' buffers, so that writes are partial.
        const LENGTH: usize = 16 * 1024 * 1024;
        let echo = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = TcpProxy::start(echo.local_addr()?).await?;
        tokio::spawn(async move {
            let (mut socket, _) = echo.accept().await?;
            let (mut read, mut write) = socket.split();
            tokio::io::copy(&mut read, &mut write).await
        });
        let (mut read, mut write) = TcpStream::connect(proxy.address()).await?.into_split();
        let sent: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&copy).await?;
            write.shutdown().await
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await?;
        writer.await??;
        ensure!(received == sent);
        ensure!((proxy.bytes_up(), proxy.bytes_down()) == (LENGTH as u64, LENGTH as u64));
        Ok(())
    })
    .await
}

async fn ping(link: &mut TcpStream) -> Result<()> {
    link.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    link.read_exact(&mut answer).await?;
    ensure!(&answer == b"+PONG\r\n");
    Ok(())
}

/// Whether the other end has closed the connection: an end or a reset.
async fn is_closed(link: &mut TcpStream) -> bool {
    matches!(link.read(&mut [0; 1]).await, Ok(0) | Err(_))
}
