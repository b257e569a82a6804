//! Unix sockets as files: binding where a stale one lies, knowing whether ours still lies there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Who may connect: the owner, as whom the kubelet and its plugins run.
const MODE: u32 = 0o600;

/// Connections that wait to be accepted, at most. A kubelet and a few curious clients need few.
const BACKLOG: u32 = 128;

/// A listening socket and its file, which is removed when this is dropped.
///
/// The file is removed only if it is still ours: whoever took the path over in the meantime
/// keeps it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    place: SocketPlace,
    keeps_file: bool,
}

impl Socket {
    /// Binds `path` and listens. A socket that lies there is taken for a dead process's and
    /// replaced; any other kind of file is left alone.
    ///
    /// Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when a file that is no socket lies at `path`; what the
    /// system says when the directory is missing or may not be written, or when the path is
    /// longer than a socket address holds (107 bytes).
    pub fn bind(path: impl Into<PathBuf>) -> io::Result<Self> {
        BoundSocket::bind(path)?.listen()
    }

    /// Leaves the file behind when this is dropped, as a process that is killed does.
    #[must_use]
    pub fn keeping_file(mut self) -> Self {
        self.keeps_file = true;
        self
    }

    /// Where the socket lies; outlives it.
    pub fn place(&self) -> &SocketPlace {
        &self.place
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// A socket whose file exists already while connections are still refused: the moment between
/// two system calls of every server, which those who watch for the file may hit.
#[derive(Debug)]
pub struct BoundSocket {
    socket: UnixSocket,
    path: PathBuf,
}

impl BoundSocket {
    /// Binds `path` as [`Socket::bind`] does, without listening.
    ///
    /// # Errors
    /// Those of [`Socket::bind`].
    pub fn bind(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        remove_stale(&path)?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE))?;
        Ok(Self { socket, path })
    }

    /// Takes connections from here on.
    pub fn listen(self) -> io::Result<Socket> {
        let listener = self.socket.listen(BACKLOG)?;
        let place = SocketPlace::of(self.path)?;
        Ok(Socket {
            listener,
            place,
            keeps_file: false,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.keeps_file && self.place.is_held() {
            // Nobody is left to tell, and the next bind replaces what stays.
            let _ = fs::remove_file(&self.place.path);
        }
    }
}

/// The path of a [`Socket`] and the identity of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlace {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketPlace {
    fn of(path: PathBuf) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(&path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            path,
        })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file at the path is still this socket. A kubelet that restarts removes its
    /// plugins' sockets: they go on listening where nobody can reach them.
    ///
    /// Reliable as long as the socket lives, which keeps its inode number from being used again.
    pub fn is_held(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode)
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} exists and is no socket", path.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_a_dead_process_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin.sock");
        // A std listener leaves its file behind, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());

        let socket = Socket::bind(&path).unwrap();

        let (client, accepted) = tokio::join!(UnixStream::connect(&path), socket.accept());
        client.unwrap();
        accepted.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();

        let error = Socket::bind(&path).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn only_the_owner_may_connect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin.sock");
        let _socket = Socket::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[tokio::test]
    async fn a_socket_knows_that_its_file_was_removed_or_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin.sock");
        let first = Socket::bind(&path).unwrap();
        assert!(first.place().is_held());

        fs::remove_file(&path).unwrap();
        assert!(!first.place().is_held());

        let second = Socket::bind(&path).unwrap();
        assert!(!first.place().is_held());
        assert!(second.place().is_held());
    }

    #[tokio::test]
    async fn a_bound_socket_refuses_until_it_listens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.sock");
        let bound = BoundSocket::bind(&path).unwrap();
        let refused = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

        let _socket = bound.listen().unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_keeps_its_file_leaves_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.sock");
        drop(Socket::bind(&path).unwrap().keeping_file());
        assert!(path.exists());
        assert!(UnixStream::connect(&path).await.is_err());
    }

    #[tokio::test]
    async fn dropping_a_socket_removes_its_own_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin.sock");
        let first = Socket::bind(&path).unwrap();
        let second = Socket::bind(&path).unwrap();

        drop(first);
        assert!(path.exists(), "the file is the second socket's");

        drop(second);
        assert!(!path.exists());
    }
}
