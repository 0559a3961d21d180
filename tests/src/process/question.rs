//! Questions over HTTP, as a kubelet or a load balancer asks them.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use super::Host;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Headers as they were written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The value of a header with exactly this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, which is JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {self:?}"),
        }
    }
}

/// `GET path` at an address, from a process of the machine that is no client of services.
///
/// # Errors
/// As the connection gives them: nobody listens, or it is cut off.
pub fn ask(host: &Host, address: impl Into<SocketAddr>, path: &str) -> io::Result<Reply> {
    let address = address.into();
    host.namespace().run(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut text = String::new();
        // That is what it was asked for.
        if stream.read_to_string(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read(&text).ok_or_else(|| io::Error::other(format!("no HTTP: {text:?}")))
    })
}

fn read(text: &str) -> Option<Reply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Reply { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}
