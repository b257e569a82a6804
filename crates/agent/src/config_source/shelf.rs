//! Where the texts of configs are, and how changes on the disk are noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::text::read_config_file;
use crate::cluster::Known;
use crate::dirwatch::{DirEvent, DirWatch, nearest_directory};

/// How long changes that come together may take to do so.
const SETTLE: Duration = Duration::from_millis(10);
/// How long a new file may take to be written.
const WRITE: Duration = Duration::from_millis(250);
/// How long changes may put a look off.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);
/// How often to look where the system has no watches left.
const BLIND_LOOK: Duration = Duration::from_secs(1);
/// Symbolic links on the way of one path that the system follows, see `path_resolution(7)`.
const LINKS_LIMIT: u32 = 40;

/// The configs that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// One, in this file.
    File(PathBuf),
    /// One in each file of this directory.
    Directory(PathBuf),
    /// These, from a ConfigMap.
    Map(BTreeMap<String, String>),
    /// None can be had, and why.
    Missing(String),
}

impl Shelf {
    /// The names of the configs.
    ///
    /// # Errors
    /// Why they cannot be had, in words.
    pub(super) fn names(&self) -> Result<BTreeSet<String>, String> {
        match self {
            Self::File(path) => Ok([path.display().to_string()].into()),
            Self::Directory(path) => names(path),
            Self::Map(texts) => Ok(texts.keys().cloned().collect()),
            Self::Missing(why) => Err(why.clone()),
        }
    }

    /// The text of a config that is there.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    pub(crate) fn text(&self, name: &str) -> Result<String, String> {
        match self {
            Self::File(path) => read_config_file(path),
            Self::Directory(path) => read_config_file(&path.join(name)),
            Self::Map(texts) => texts
                .get(name)
                .cloned()
                .ok_or_else(|| format!("the config {name:?} is not there")),
            Self::Missing(why) => Err(why.clone()),
        }
    }
}

/// The files of a directory that are configs: not those with which the kubelet keeps a mounted
/// ConfigMap in order (`..data`), nor other hidden ones.
fn names(directory: &Path) -> Result<BTreeSet<String>, String> {
    let failed = |error: std::io::Error| {
        format!(
            "the directory of configs {} cannot be read: {error}; is the ConfigMap mounted there?",
            directory.display()
        )
    };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with('.') && entry.path().is_file() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Says whenever what `shelf` has on the disk may have changed, for ever.
pub(crate) async fn watch_disk(shelf: Shelf, path: PathBuf, tell: watch::Sender<Known<Shelf>>) {
    let mut blind = false;
    loop {
        let places = places(&path);
        let watch = DirWatch::on_contents(places.iter().map(PathBuf::as_path));
        // What has changed before the watch began is read now.
        tell.send_replace(Known::Is(shelf.clone()));
        match watch {
            Ok(watch) => {
                blind = false;
                settled(watch).await;
            }
            Err(error) => {
                if !blind {
                    blind = true;
                    tracing::warn!(
                        event = "config-watch",
                        path = %path.display(),
                        %error,
                        "changes cannot be watched; looking every second instead"
                    );
                }
                sleep(BLIND_LOOK).await;
            }
        }
    }
}

/// Waits for a change, and for those that belong to it.
async fn settled(mut watch: DirWatch) {
    let Ok(first) = watch.next().await else {
        return;
    };
    let latest = Instant::now() + SETTLE_LIMIT;
    let mut last = first;
    loop {
        let patience = match last {
            DirEvent::Appeared(_) => WRITE,
            DirEvent::Written(_) | DirEvent::Vanished(_) | DirEvent::Overflow => SETTLE,
            DirEvent::Ended => return sleep(SETTLE).await,
        };
        let until = latest.min(Instant::now() + patience);
        match timeout_at(until, watch.next()).await {
            Ok(Ok(event)) if Instant::now() < latest => last = event,
            Ok(_) | Err(_) => return,
        }
    }
}

/// The directories in which something happens when the text at `path`, or one below it, changes:
/// a mounted ConfigMap's files are symbolic links to a directory that is exchanged as a whole,
/// and people switch from one directory to another in the same way.
fn places(path: &Path) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    add_way(path, &mut places);
    if let Ok(entries) = fs::read_dir(path) {
        places.insert(path.to_owned());
        for entry in entries.flatten() {
            add_way(&entry.path(), &mut places);
        }
    }
    places
}

/// Adds the directories of all symbolic links on the way to `path`, and the one in which the way
/// ends, or would.
fn add_way(path: &Path, places: &mut BTreeSet<PathBuf>) {
    let Ok(path) = std::path::absolute(path) else {
        return;
    };
    // As the system walks: `here` has no links in it, and `rest` is what is left, its end first.
    let mut here = PathBuf::from("/");
    let mut rest = steps(&path);
    let mut links = 0;
    while let Some(step) = rest.pop() {
        if step == ".." {
            here.pop();
            continue;
        }
        let next = here.join(step);
        match fs::read_link(&next) {
            Ok(target) if links < LINKS_LIMIT => {
                links += 1;
                rest.extend(steps(&target));
                places.insert(here.clone());
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
            }
            // It is no link, or nothing is there.
            Ok(_) | Err(_) => here = next,
        }
    }
    places.extend(here.parent().map(nearest_directory));
}

/// The names in a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev();
    steps
        .filter(|step| matches!(step, Component::Normal(_) | Component::ParentDir))
        .map(|step| step.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory as the kubelet mounts a ConfigMap: files are links into `..data`, which is a
    /// link to the directory of the present version.
    fn mounted(dir: &Path, version: &str, texts: &[(&str, &str)]) {
        let inner = format!("..{version}");
        fs::create_dir(dir.join(&inner)).unwrap();
        for (name, text) in texts {
            fs::write(dir.join(&inner).join(name), text).unwrap();
            if fs::symlink_metadata(dir.join(name)).is_err() {
                symlink(format!("..data/{name}"), dir.join(name)).unwrap();
            }
        }
        symlink(&inner, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    }

    async fn changed(news: &mut watch::Receiver<Known<Shelf>>) {
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, news.changed())
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_mounted_config_map_that_is_exchanged_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        mounted(dir.path(), "1", &[("a", "old"), ("b", "")]);
        let shelf = Shelf::Directory(dir.path().to_owned());
        assert_eq!(
            shelf.names().unwrap(),
            ["a".to_owned(), "b".to_owned()].into()
        );
        assert_eq!(shelf.text("a").unwrap(), "old");
        let file = dir.path().join("a");
        for (place, path, version) in [
            (shelf, dir.path().to_owned(), "2"),
            (Shelf::File(file.clone()), file, "3"),
        ] {
            let (tell, mut news) = watch::channel(Known::NotYet);
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(watch_disk(place.clone(), path, tell));
            changed(&mut news).await;
            mounted(dir.path(), version, &[("a", version)]);
            changed(&mut news).await;
            assert_eq!(place.text("a").unwrap(), version);
        }
    }

    #[tokio::test]
    async fn a_directory_that_comes_late_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late/configs");
        let shelf = Shelf::Directory(path.clone());
        assert!(shelf.names().unwrap_err().contains("late/configs"));
        let (tell, mut news) = watch::channel(Known::NotYet);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(watch_disk(shelf.clone(), path.clone(), tell));
        changed(&mut news).await;
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a"), "text").unwrap();
        while shelf.names() != Ok(["a".to_owned()].into()) {
            changed(&mut news).await;
        }
        fs::write(path.join("a"), "other").unwrap();
        while shelf.text("a").unwrap() != "other" {
            changed(&mut news).await;
        }
    }

    /// Lets the link lead elsewhere, as `ln -sfn` does.
    fn switch(link: &Path, target: &str) {
        let new = link.with_extension("new");
        symlink(target, &new).unwrap();
        fs::rename(new, link).unwrap();
    }

    #[tokio::test]
    async fn a_link_on_the_way_that_is_switched_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir_all(dir.path().join(version).join("in")).unwrap();
            fs::write(dir.path().join(version).join("in/a"), version).unwrap();
        }
        let link = dir.path().join("current");
        for (way, shelf) in [
            ("current/in", Shelf::Directory as fn(PathBuf) -> Shelf),
            ("current/in/a", Shelf::File),
            ("v1/../current/in/a", Shelf::File),
        ] {
            switch(&link, "v1");
            let path = dir.path().join(way);
            let place = shelf(path.clone());
            let (tell, mut news) = watch::channel(Known::NotYet);
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(watch_disk(place.clone(), path, tell));
            changed(&mut news).await;
            assert_eq!(place.text("a").unwrap(), "v1");
            switch(&link, "v2");
            changed(&mut news).await;
            assert_eq!(place.text("a").unwrap(), "v2");
        }
    }

    #[test]
    fn a_link_to_itself_and_one_to_nothing_are_watched_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir(real.join("there")).unwrap();
        symlink("circle", real.join("circle")).unwrap();
        symlink("there/none/a", real.join("nothing")).unwrap();
        let at = |name: &str| places(&real.join(name));
        assert_eq!(at("circle"), [real.clone()].into());
        assert_eq!(at("nothing"), [real.clone(), real.join("there")].into());
    }
}
