//! Whether a server answers: polls of its real endpoint, and the wait around them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::{Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};

use crate::client;

/// How often an endpoint is asked.
const POLL: Duration = Duration::from_millis(100);

/// Polls until `probe` succeeds; fails when `alive` says the server has ended, or after
/// `limit`, with the last answer.
pub(crate) async fn wait<F>(
    limit: Duration,
    alive: impl Fn() -> bool,
    probe: impl Fn() -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let Err(error) = probe().await else {
            return Ok(());
        };
        if !alive() {
            bail!("it has ended");
        }
        if Instant::now() > deadline {
            return Err(error.context(format!("no success within {} s", limit.as_secs())));
        }
        sleep(POLL).await;
    }
}

/// A plain HTTP endpoint on loopback answers 200.
pub(crate) async fn http(port: u16, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).context("no HTTP answer")?;
    if status != "200" {
        bail!("{path} answers {status}");
    }
    Ok(())
}

/// An HTTPS endpoint with a certificate that the server made for itself answers.
pub(crate) async fn https(port: u16, path: &str) -> Result<()> {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse()?);
    config.accept_invalid_certs = true;
    client::get_text(&Client::try_from(config)?, path).await?;
    Ok(())
}

/// An endpoint of the API server answers an administrator.
pub(crate) async fn kube(kubeconfig: PathBuf, path: &str) -> Result<()> {
    client::get_text(&client::from_kubeconfig(&kubeconfig).await?, path).await?;
    Ok(())
}

/// A unix socket accepts connections.
pub(crate) async fn unix(path: PathBuf) -> Result<()> {
    UnixStream::connect(&path)
        .await
        .with_context(|| path.display().to_string())?;
    Ok(())
}
