//! Bodies of answers, whole, streamed, and damaged on the way.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::time::sleep;

use crate::{fault::Fault, watch::Watch};

/// After this time what was written is on its way.
const FLUSHED: Duration = Duration::from_millis(20);

/// What is sent to a client.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// All of it at once.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Events as they come.
pub(crate) fn events(watch: Watch) -> Body {
    let events = stream::unfold(watch, |mut watch| async move {
        let bytes = watch.next().await?;
        Some((Ok(Frame::data(bytes)), watch))
    });
    StreamBody::new(events).boxed_unsync()
}

/// `body` as `fault` lets it through.
pub(crate) fn damaged(body: Body, fault: &Fault) -> Body {
    match *fault {
        Fault::Cut(after) => cut(body, after),
        Fault::Slow(piece, pause) => slow(body, piece.max(1), pause),
        Fault::Garbage => whole("\u{1}\u{2} this is no JSON {"),
        _ => body,
    }
}

fn cut(body: Body, after: usize) -> Body {
    let pieces = stream::unfold((body.into_data_stream(), Some(after)), |(mut data, left)| async move {
        let left = left?;
        let next = if left == 0 { None } else { data.next().await };
        let Some(Ok(piece)) = next else {
            // What was given so far is to be sent before the connection goes.
            sleep(FLUSHED).await;
            return Some((Err(io::Error::other("cut by a fault")), (data, None)));
        };
        let piece = piece.slice(..piece.len().min(left));
        let left = left - piece.len();
        Some((Ok(Frame::data(piece)), (data, Some(left))))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn slow(body: Body, size: usize, pause: Duration) -> Body {
    let state = (body.into_data_stream(), Bytes::new());
    let pieces = stream::unfold(state, move |(mut data, mut rest)| async move {
        while rest.is_empty() {
            match data.next().await? {
                Ok(more) => rest = more,
                Err(error) => return Some((Err(error), (data, rest))),
            }
        }
        let piece = rest.split_to(rest.len().min(size));
        sleep(pause).await;
        Some((Ok(Frame::data(piece)), (data, rest)))
    });
    StreamBody::new(pieces).boxed_unsync()
}
