//! Files that are replaced whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces the file `name` in `dir`, which is made if need be; also when the machine loses power
/// there is the old text or the new one, nothing between.
pub(crate) fn replace(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Whether there is something that is neither a file nor a directory: `/dev/stdout`, a pipe. That is
/// something to write to, and not to take the place of.
pub fn is_device(path: &Path) -> bool {
    let kind = fs::metadata(path).map(|found| found.file_type());
    kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir())
}
