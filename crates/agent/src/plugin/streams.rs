//! Which ListAndWatch streams are open, and whether the kubelet's own is among them.

use tokio::sync::watch;

/// The streams of one resource. Clones share them.
///
/// They are counted in epochs, one for each registration. The first stream of an epoch is the
/// kubelet's, which opens it at once when it has taken the registration; others may look on.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    book: watch::Sender<Book>,
}

/// What is known of the streams at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Book {
    epoch: u64,
    /// Streams of epochs before this one are to end.
    floor: u64,
    /// How many streams are open, of any epoch.
    pub(crate) open: usize,
    /// The kubelet's stream of this epoch.
    pub(crate) kubelet: KubeletStream,
}

/// The stream on which the kubelet gets its lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KubeletStream {
    /// It has not been opened yet.
    Awaited,
    /// It is open.
    Open,
    /// It was opened and has ended.
    Ended,
}

impl Streams {
    pub(crate) fn new() -> Self {
        let book = Book {
            epoch: 0,
            floor: 0,
            open: 0,
            kubelet: KubeletStream::Awaited,
        };
        Self {
            book: watch::Sender::new(book),
        }
    }

    /// Begins an epoch; the streams that are open now are to end.
    pub(crate) fn renew(&self) {
        self.begin(true);
    }

    /// Begins an epoch beside those that are open, which go on.
    pub(crate) fn add(&self) {
        self.begin(false);
    }

    fn begin(&self, end_others: bool) {
        self.book.send_modify(|book| {
            book.epoch += 1;
            book.kubelet = KubeletStream::Awaited;
            if end_others {
                book.floor = book.epoch;
            }
        });
    }

    /// What is known, and news of it.
    pub(crate) fn book(&self) -> watch::Receiver<Book> {
        self.book.subscribe()
    }

    /// Counts one more stream until its guard is dropped.
    pub(crate) fn open(&self) -> OpenStream {
        let mut epoch = 0;
        let mut is_kubelets = false;
        self.book.send_modify(|book| {
            epoch = book.epoch;
            book.open += 1;
            is_kubelets = book.kubelet == KubeletStream::Awaited;
            if is_kubelets {
                book.kubelet = KubeletStream::Open;
            }
        });
        OpenStream {
            streams: self.clone(),
            news: self.book.subscribe(),
            epoch,
            is_kubelets,
        }
    }
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct OpenStream {
    streams: Streams,
    news: watch::Receiver<Book>,
    epoch: u64,
    is_kubelets: bool,
}

impl OpenStream {
    /// Completes when this stream is to end. Cancel safe.
    pub(crate) async fn over(&mut self) {
        let epoch = self.epoch;
        // This stream holds a sender, so the channel cannot be closed.
        let _ = self.news.wait_for(|book| book.floor > epoch).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let (epoch, is_kubelets) = (self.epoch, self.is_kubelets);
        self.streams.book.send_modify(|book| {
            book.open -= 1;
            if is_kubelets && book.epoch == epoch {
                book.kubelet = KubeletStream::Ended;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_stream_of_an_epoch_is_the_kubelets() {
        let streams = Streams::new();
        let book = streams.book();
        let kubelet = streams.open();
        let onlooker = streams.open();
        assert_eq!(book.borrow().open, 2);
        drop(onlooker);
        assert_eq!(book.borrow().kubelet, KubeletStream::Open);
        drop(kubelet);
        assert_eq!(book.borrow().kubelet, KubeletStream::Ended);
        assert_eq!(book.borrow().open, 0);
    }

    #[tokio::test]
    async fn an_epoch_that_is_added_has_a_kubelets_stream_of_its_own() {
        let streams = Streams::new();
        let book = streams.book();
        let first = streams.open();
        streams.add();
        let mut second = streams.open();
        drop(first);
        assert_eq!(book.borrow().kubelet, KubeletStream::Open);
        assert_eq!(book.borrow().open, 1);
        streams.renew();
        second.over().await;
    }

    #[tokio::test]
    async fn a_new_epoch_ends_the_streams_of_the_one_before() {
        let streams = Streams::new();
        let book = streams.book();
        let mut old = streams.open();
        streams.renew();
        old.over().await;
        let _new = streams.open();
        drop(old);
        assert_eq!(
            book.borrow().kubelet,
            KubeletStream::Open,
            "the old one does not count"
        );
        assert_eq!(book.borrow().open, 1);
    }
}
