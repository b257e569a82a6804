//! The texts of configs on the disk, of which none may be larger than what is made for configs.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The most that a config may have, in bytes: what a ConfigMap can hold.
pub const CONFIG_LIMIT: u64 = 1 << 20;

/// Reads a config's text from a file.
///
/// # Errors
/// For people: that the file cannot be read, is longer than 1 MiB, or is no ordinary file. A pipe
/// or a device is not even opened, for some of them wait for ever or never end.
pub fn read_config_file(path: &Path) -> Result<String, String> {
    let name = path.display();
    let failed = |error: io::Error| format!("the config file {name} cannot be read: {error}");
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() {
        return Err(format!(
            "the config file {name} is {}, no ordinary file",
            words(kind)
        ));
    }
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(failed)?.take(CONFIG_LIMIT + 1);
    file.read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > CONFIG_LIMIT {
        return Err(format!(
            "the config file {name} is longer than {CONFIG_LIMIT} bytes"
        ));
    }
    String::from_utf8(text).map_err(|error| {
        format!(
            "the config file {name} is no text in UTF-8 from its byte {} on",
            error.utf8_error().valid_up_to() + 1
        )
    })
}

fn words(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory (--config-dir takes one)"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let limit = usize::try_from(CONFIG_LIMIT).unwrap();
        fs::write(&path, vec![b'a'; limit]).unwrap();
        assert_eq!(read_config_file(&path).unwrap().len(), limit);
        // Half of the last letter is read: it is too long all the same.
        fs::write(&path, format!("{}ü", "a".repeat(limit))).unwrap();
        let error = read_config_file(&path).unwrap_err();
        assert!(error.contains("longer than 1048576 bytes"), "{error}");
    }

    #[test]
    fn what_is_no_ordinary_file_is_said_to_be_so() {
        let dir = tempfile::tempdir().unwrap();
        for (path, kind) in [
            (dir.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = read_config_file(path).unwrap_err();
            assert!(error.contains(kind), "{error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
        let error = read_config_file(&dir.path().join("none")).unwrap_err();
        assert!(error.contains("cannot be read: No such file"), "{error}");
    }
}
