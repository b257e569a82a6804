//! What is known of things that only the API can tell.

use tokio::sync::watch;

/// What is known of something that only others can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known<T> {
    /// Nothing was heard yet.
    NotYet,
    /// They do not answer.
    Away,
    /// They have said that they will not tell, or that there is nothing to tell.
    Refused,
    /// This.
    Is(T),
}

/// Tells `news`, unless more is known already: an API that is away takes nothing back.
pub(crate) fn update<T: PartialEq>(tell: &watch::Sender<Known<T>>, news: Known<T>) {
    tell.send_if_modified(|known| {
        let less = matches!(news, Known::Away | Known::Refused) && matches!(known, Known::Is(_));
        if less || *known == news {
            return false;
        }
        *known = news;
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_forgotten_when_the_api_is_away() {
        let (tell, mut known) = watch::channel(Known::NotYet);
        let label = |text: &str| Known::Is(Some(text.to_owned()));
        for (news, then) in [
            (Known::Away, Known::Away),
            (Known::Refused, Known::Refused),
            (label("a"), label("a")),
            (Known::Away, label("a")),
            (Known::Refused, label("a")),
            (Known::Is(None), Known::Is(None)),
        ] {
            update(&tell, news);
            assert_eq!(*known.borrow_and_update(), then);
        }
        update(&tell, Known::Is(None));
        assert!(!known.has_changed().unwrap());
    }
}
