//! A request's body as it comes in: bounded in size, in how long it may bring nothing, and
//! where it is taken as a whole, in how long it may take.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::problem::{Cause, Problem};

/// So many times as long as it may bring nothing may a whole body take: with the defaults a minute,
/// in which 4 MiB come over 0.6 Mbit/s. Or a client that sends a byte now and then would hold what
/// has come of it for as long as it likes.
const WHOLE_PATIENCES: u32 = 6;

/// A body that is still coming.
#[derive(Debug)]
pub struct Upload {
    body: Body,
    patience: Duration,
}

impl Upload {
    /// Takes a body.
    #[must_use]
    pub fn new(body: Body, patience: Duration) -> Self {
        Self { body, patience }
    }

    /// The next piece; `None` at the end. Nothing is read ahead, so whoever is slow to take pieces
    /// slows the sender.
    ///
    /// # Errors
    /// 408 when nothing comes, 400 when the body breaks off.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = tokio::time::timeout(self.patience, self.body.frame()).await;
            match frame {
                Err(_) => {
                    let detail = format!("nothing came for {:?}", self.patience);
                    return Err(Problem::new(Cause::BodyTimeout, detail));
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => {
                    return Err(Problem::new(Cause::InvalidBody, "the body broke off"));
                }
                // Anything but data is a trailer, and means nothing here.
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, whose announced length is refused at once when it is too much.
    ///
    /// # Errors
    /// 413, and those of [`Upload::piece`].
    pub async fn whole(&mut self, announced: Option<u64>, max: usize) -> Result<Bytes, Problem> {
        if announced.is_some_and(|length| length > max as u64) {
            return Err(too_large(max));
        }
        let whole = self.patience * WHOLE_PATIENCES;
        match tokio::time::timeout(whole, self.gathered(max)).await {
            Ok(gathered) => gathered,
            Err(_) => {
                let detail = format!("the body was not whole after {whole:?}");
                Err(Problem::new(Cause::BodyTimeout, detail))
            }
        }
    }

    async fn gathered(&mut self, max: usize) -> Result<Bytes, Problem> {
        let Some(first) = self.piece().await? else {
            return Ok(Bytes::new());
        };
        let Some(mut next) = self.piece().await? else {
            return if first.len() > max {
                Err(too_large(max))
            } else {
                Ok(first)
            };
        };
        let mut whole = BytesMut::from(first);
        loop {
            if whole.len() + next.len() > max {
                return Err(too_large(max));
            }
            whole.extend_from_slice(&next);
            match self.piece().await? {
                Some(piece) => next = piece,
                None => return Ok(whole.freeze()),
            }
        }
    }
}

fn too_large(max: usize) -> Problem {
    let detail = format!("the body has more than {max} bytes");
    Problem::new(Cause::BodyTooLarge, detail).with("allowed", max)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// A byte every second, without end.
    fn dripping() -> Body {
        Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_not_waited_for_without_end() {
        let started = tokio::time::Instant::now();
        let mut upload = Upload::new(dripping(), Duration::from_secs(10));
        let problem = upload.whole(None, 4096).await.expect_err("too slow");
        assert_eq!(problem.cause, Cause::BodyTimeout);
        assert_eq!(started.elapsed(), Duration::from_secs(60));
    }
}
