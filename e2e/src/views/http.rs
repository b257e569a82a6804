//! As much of HTTP as a test needs: questions to Prometheus, and a page for it to scrape.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Asks, with the form's fields as a body if there are any, and returns the answer's body.
pub(super) async fn ask(address: SocketAddr, path: &str, form: &[(&str, &str)]) -> Result<String> {
    let body: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    let body = body.join("&");
    let method = if form.is_empty() { "GET" } else { "POST" };
    // Version 1.0, so that the answer ends with the connection.
    let question = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(question.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer has a head")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{path}: {status}: {body}");
    }
    Ok(body.to_owned())
}

/// A value of a form.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A page that is made anew for each question; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Page {
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl Page {
    /// Serves what `write` says.
    pub(super) async fn serve(write: impl Fn() -> String + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A client that has gone misses nothing that the next question does not tell.
                let _ = answer(&mut stream, &write()).await;
            }
        });
        Ok(Self {
            address,
            _server: server,
        })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn answer(stream: &mut TcpStream, page: &str) -> std::io::Result<()> {
    // Prometheus' question fits one read; what it asks for is clear.
    let mut question = [0; 4096];
    let _length = stream.read(&mut question).await?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_can_be_asked_for_again_and_again() {
        let page = Page::serve(|| "up 1\n".to_owned()).await.unwrap();
        for form in [&[][..], &[("query", "a{b=~\"c\"} > 1")]] {
            assert_eq!(ask(page.address(), "/", form).await.unwrap(), "up 1\n");
        }
    }

    #[test]
    fn what_is_not_a_letter_or_a_digit_is_escaped() {
        assert_eq!(encoded("a{b=\"ü\"}"), "a%7Bb%3D%22%C3%BC%22%7D");
    }
}
