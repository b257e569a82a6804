//! The directory in which the kubelet and its plugins have their sockets.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::dirwatch::{DirEvent, DirWatch, nearest_directory};

/// Where the system gives no watch, the directory counts as changed this often.
const BLIND_LOOK: Duration = Duration::from_secs(1);

/// What has happened in the directory so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DirNews {
    /// How often the kubelet's socket may have been made: each time it is another kubelet.
    pub(super) kubelets: u64,
    /// How often another plugin's socket came or went: it may have taken one of our names, or
    /// given it up.
    pub(super) strangers: u64,
    /// How often anything happened to sockets.
    pub(super) changes: u64,
}

/// Where to register.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    /// The plugins' directory.
    pub(super) dir: PathBuf,
    /// The kubelet's socket; `None` where registering is not wanted.
    pub(super) kubelet: Option<PathBuf>,
    pub(super) news: watch::Receiver<DirNews>,
}

/// Watches `dir` and tells of every change to its sockets, until `stop`.
///
/// A directory that is missing or replaced is waited for. Whenever the watch begins anew, a
/// kubelet may have come unseen, so it counts as another one.
pub(super) async fn watch_dir(
    dir: PathBuf,
    kubelet: Option<PathBuf>,
    news: watch::Sender<DirNews>,
    stop: CancellationToken,
) {
    let kubelet = kubelet
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let watching = async {
        loop {
            let Ok(mut watch) = begin(&dir).await else {
                sleep(BLIND_LOOK).await;
                new_kubelet(&news);
                continue;
            };
            new_kubelet(&news);
            loop {
                match watch.next().await {
                    Ok(DirEvent::Appeared(name)) if name == kubelet => new_kubelet(&news),
                    // Not the kubelet's checkpoint, which it rewrites all the time.
                    Ok(DirEvent::Appeared(name) | DirEvent::Vanished(name)) => {
                        if is_socket(&name) {
                            let stranger = name != kubelet && !is_ours(&name);
                            news.send_modify(|news| {
                                news.changes += 1;
                                news.strangers += u64::from(stranger);
                            });
                        }
                    }
                    // Not asked for.
                    Ok(DirEvent::Written(_)) => {}
                    Ok(DirEvent::Overflow) => new_kubelet(&news),
                    Ok(DirEvent::Ended) | Err(_) => break,
                }
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = stop.cancelled() => {}
    }
}

/// A watch on `dir`, as soon as it exists.
async fn begin(dir: &Path) -> io::Result<DirWatch> {
    loop {
        match DirWatch::new([dir]) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            watch => return watch,
        }
        let parent = nearest_directory(dir);
        let mut above = DirWatch::new([parent.as_path()])?;
        // It may have been made before that watch was there.
        if nearest_directory(dir) == parent {
            above.next().await?;
        }
    }
}

fn new_kubelet(news: &watch::Sender<DirNews>) {
    news.send_modify(|news| {
        news.changes += 1;
        news.kubelets += 1;
    });
}

fn is_socket(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(b".sock")
}

/// Whether a name is of the kind that
/// [`ResourceName::socket_name`](mizzen_core::resource::ResourceName::socket_name) gives.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"nvidia-")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_directory_that_is_made_later_and_made_anew_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("lib/kubelet/device-plugins");
        let socket = dir.join("kubelet.sock");
        let (sender, mut news) = watch::channel(DirNews::default());
        let stop = CancellationToken::new();
        let task = watch_dir(dir.clone(), Some(socket.clone()), sender, stop.clone());
        let test = async {
            for _ in 0..2 {
                let before = news.borrow_and_update().kubelets;
                fs::create_dir_all(&dir).unwrap();
                fs::write(&socket, "").unwrap();
                news.wait_for(|news| news.kubelets > before).await.unwrap();
                fs::remove_dir_all(root.path().join("lib")).unwrap();
            }
            stop.cancel();
        };
        let both = async { tokio::join!(task, test) };
        timeout(Duration::from_secs(20), both).await.unwrap();
    }

    #[tokio::test]
    async fn only_sockets_count_and_only_the_kubelets_is_a_new_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut news) = watch::channel(DirNews::default());
        let stop = CancellationToken::new();
        let kubelet = dir.path().join("kubelet.sock");
        let task = watch_dir(
            dir.path().to_owned(),
            Some(kubelet.clone()),
            sender,
            stop.clone(),
        );
        let test = async {
            news.wait_for(|news| news.kubelets == 1).await.unwrap();
            fs::write(dir.path().join("kubelet_internal_checkpoint"), "").unwrap();
            fs::write(dir.path().join("nvidia-gpu.sock"), "").unwrap();
            news.wait_for(|news| news.changes == 2).await.unwrap();
            fs::write(dir.path().join("rdma.sock"), "").unwrap();
            fs::write(&kubelet, "").unwrap();
            let last = *news.wait_for(|news| news.changes == 4).await.unwrap();
            assert_eq!(
                last,
                DirNews {
                    kubelets: 2,
                    strangers: 1,
                    changes: 4
                }
            );
            stop.cancel();
        };
        let both = async { tokio::join!(task, test) };
        timeout(Duration::from_secs(20), both).await.unwrap();
    }
}
