//! `create-symlinks`.

use crate::args::Link;
use crate::failure::Failure;
use crate::root::Root;

/// Makes links in the container, with the directories above them. One that is there already is
/// left alone; another one, or a file, makes room; a directory stays.
pub(crate) fn create(root: &Root, links: &[Link]) -> Vec<Failure> {
    let make = |link: &Link| {
        let made = root.link(&link.path, &link.target);
        made.err().map(|error| {
            let Link { target, path } = link;
            Failure::new(format!("the link {path} to {target} cannot be made"), error)
        })
    };
    links.iter().filter_map(make).collect()
}
