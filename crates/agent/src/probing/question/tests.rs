use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Instant,
};

use model::Probe;

use super::*;

/// What a server on loopback, who takes one connection and says `says`, makes of a question; and what it was sent.
fn served(action: ProbeAction, says: &'static str) -> (Answer, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = if says.is_empty() { 0 } else { stream.read(&mut request).unwrap() };
        stream.write_all(says.as_bytes()).unwrap();
        if says.ends_with("...") {
            // The rest of the body never comes.
            thread::sleep(Duration::from_millis(300));
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let answer = asked(address, action, Duration::from_secs(5));
    (answer, server.join().unwrap())
}

fn asked(address: SocketAddr, action: ProbeAction, timeout: Duration) -> Answer {
    let probe = Probe {
        action,
        port: address.port(),
        interval: timeout,
        timeout,
        healthy: 1,
        unhealthy: 1,
        use_all: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ask(&Question::to(address, probe)))
}

fn http(path: &str) -> ProbeAction {
    ProbeAction::Http(path.into())
}

#[test]
fn who_accepts_is_well_for_tcp() {
    assert_eq!(served(ProbeAction::Tcp, "").0, Ok(()));
}

#[test]
fn who_answers_200_to_399_is_well_for_http() {
    let (answer, request) = served(http("/healthz?full=1"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer, Ok(()));
    let mut lines = request.lines();
    assert_eq!(lines.next(), Some("GET /healthz?full=1 HTTP/1.1"));
    let headers: Vec<String> = lines.map(str::to_lowercase).collect();
    assert!(headers.iter().any(|it| it.starts_with("host: 127.0.0.1:")), "{headers:?}");
    assert!(headers.iter().any(|it| it.starts_with("user-agent: balancing/")), "{headers:?}");
    assert!(headers.contains(&"connection: close".into()), "{headers:?}");

    // It is not followed: nobody is there.
    let elsewhere = "HTTP/1.1 399 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(served(http("/"), elsewhere).0, Ok(()));
    for (status, says) in [
        (400, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"),
        (500, "HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n"),
    ] {
        assert_eq!(served(http("/"), says).0, Err(Failure::Status(status)));
    }
}

#[test]
fn a_body_is_not_waited_for() {
    let begun = Instant::now();
    let (answer, _) = served(http("/"), "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n...");
    assert_eq!(answer, Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn what_is_no_http_is_no_answer() {
    for says in ["SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 20"] {
        let answer = served(http("/"), says).0;
        assert!(matches!(answer, Err(Failure::NotHttp(_))), "{says:?}: {answer:?}");
    }
}

#[test]
fn nobody_and_somebody_who_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let timeout = Duration::from_millis(100);
    // The system accepts, and nobody answers.
    assert_eq!(asked(address, ProbeAction::Tcp, timeout), Ok(()));
    assert_eq!(asked(address, http("/"), timeout), Err(Failure::TimedOut(timeout)));
    drop(listener);
    for action in [ProbeAction::Tcp, http("/")] {
        assert_eq!(asked(address, action, timeout), Err(Failure::Refused));
    }
}

#[test]
fn a_path_that_schemas_allow_can_be_asked_for() {
    let all: String = ('!'..='~').collect();
    let path = format!("/{all}");
    let (answer, request) = served(http(&path), "HTTP/1.1 204 Nothing\r\n\r\n");
    assert_eq!(answer, Ok(()), "{request}");
    assert_eq!(encoded("/a?b=c&d=%20"), "/a?b=c&d=%20");
    assert_eq!(encoded("/<\"#>"), "/%3C%22%23%3E");
}

#[test]
fn what_this_machine_lacks_is_not_the_addresss_fault() {
    let of = |errno: Errno| failure(&io::Error::from_raw_os_error(errno.raw_os_error()));
    assert!(matches!(of(Errno::MFILE), Failure::Unasked(_)));
    assert_eq!(of(Errno::CONNREFUSED), Failure::Refused);
    assert!(matches!(of(Errno::HOSTUNREACH), Failure::Unreachable(_)));
}
