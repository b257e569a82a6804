//! Whether a client is who it says it is: basic authentication against bcrypt hashes.
//!
//! One comparison takes as long as a page of metrics for a thousand GPUs. So it is done on a
//! thread of its own, one at a time, and what came of it is remembered.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use mizzen_core::config::Secret;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Outcomes that are remembered: for the few who ask, and for somebody who is wrong again and
/// again.
const REMEMBERED: usize = 64;

/// Compares what clients say with what is known of users.
#[derive(Debug)]
pub(super) struct Credentials {
    /// Outcomes by digests that nobody can foretell, so that no password is kept.
    outcomes: Mutex<BTreeMap<u128, bool>>,
    digests: [RandomState; 2],
    comparing: Semaphore,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            outcomes: Mutex::default(),
            digests: [RandomState::new(), RandomState::new()],
            comparing: Semaphore::new(1),
        }
    }
}

impl Credentials {
    /// Whether this value of the header `Authorization` is one of the users with his password.
    pub(super) async fn are_right(
        &self,
        users: &BTreeMap<String, Secret>,
        header: Option<&HeaderValue>,
    ) -> bool {
        let Some((name, password)) = header.and_then(parse) else {
            return false;
        };
        let user = users.get(&name);
        // Somebody who is unknown takes as long as somebody who is wrong.
        let Some(hash) = user.or_else(|| users.values().next()) else {
            return false;
        };
        let hash = hash.reveal().to_owned();
        let digest = self.digest(&name, &hash, &password);
        let outcome = match self.remembered(digest) {
            Some(outcome) => outcome,
            None => self.compare(digest, hash, password).await,
        };
        outcome && user.is_some()
    }

    async fn compare(&self, digest: u128, hash: String, password: Vec<u8>) -> bool {
        let Ok(_turn) = self.comparing.acquire().await else {
            return false;
        };
        // Somebody who asks the same may have been before us.
        if let Some(outcome) = self.remembered(digest) {
            return outcome;
        }
        let comparing = spawn_blocking(move || bcrypt::verify(password, &hash));
        let outcome = matches!(comparing.await, Ok(Ok(true)));
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if outcomes.len() >= REMEMBERED {
            outcomes.clear();
        }
        outcomes.insert(digest, outcome);
        outcome
    }

    fn remembered(&self, digest: u128) -> Option<bool> {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.get(&digest).copied()
    }

    fn digest(&self, name: &str, hash: &str, password: &[u8]) -> u128 {
        let [high, low] = &self.digests;
        let half = |key: &RandomState| u128::from(key.hash_one((name, hash, password)));
        half(high) << 64 | half(low)
    }
}

/// The name and the password of a header.
fn parse(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((name, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mizzen_core::config::WebConfig;

    use super::*;

    fn users() -> BTreeMap<String, Secret> {
        let hash = bcrypt::hash("pass:word", 4).unwrap();
        let text = format!("basic_auth_users: {{me: {hash}}}");
        WebConfig::parse(&text, Path::new("/")).unwrap().users
    }

    fn header(text: &str) -> HeaderValue {
        let value = format!("Basic {}", STANDARD.encode(text));
        value.parse().unwrap()
    }

    #[tokio::test]
    async fn who_gives_name_and_password_is_right_and_nobody_else() {
        let (credentials, users) = (Credentials::default(), users());
        for _ in 0..2 {
            for (text, right) in [
                ("me:pass:word", true),
                ("me:password", false),
                ("you:pass:word", false),
                ("me", false),
                (":", false),
            ] {
                let header = header(text);
                let are = credentials.are_right(&users, Some(&header)).await;
                assert_eq!(are, right, "{text}");
            }
        }
        assert!(!credentials.are_right(&users, None).await);
        for text in ["Bearer abc", "Basic", "Basic !"] {
            let header = text.parse().unwrap();
            assert!(
                !credentials.are_right(&users, Some(&header)).await,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_comparison_is_made_once_and_only_so_many_are_remembered() {
        let (credentials, users) = (Credentials::default(), users());
        let right = header("me:pass:word");
        assert!(credentials.are_right(&users, Some(&right)).await);
        // No more can be compared, and what was compared is known.
        credentials.comparing.close();
        assert!(credentials.are_right(&users, Some(&right)).await);
        assert!(
            !credentials
                .are_right(&users, Some(&header("me:other")))
                .await
        );

        let credentials = Credentials::default();
        for number in 0..=REMEMBERED {
            let wrong = header(&format!("me:{number}"));
            credentials.are_right(&users, Some(&wrong)).await;
        }
        assert_eq!(credentials.outcomes.lock().unwrap().len(), 1);
    }
}
