//! Whether snapshots were written while a row was measured, as the dates of their files show.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// What speaks against a row that is to be measured while snapshots are written, if none was
/// written below this directory since then.
pub(super) fn caveat(of: &str, directory: &Path, since: SystemTime) -> Option<String> {
    let is_written = newest(directory).is_some_and(|newest| newest >= since);
    (!is_written).then(|| format!("{of} wrote no snapshot meanwhile: measure longer"))
}

/// When the newest snapshot was written: ours and etcd's by their suffix, Redis' by its name.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let newest_of = |entry: fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() {
            return newest(&path);
        }
        let is_snapshot = path.extension().is_some_and(|suffix| suffix == "snap")
            || path.file_name().is_some_and(|name| name == "dump.rdb");
        // A file that is gone by now was not the newest.
        is_snapshot.then(|| entry.metadata().and_then(|data| data.modified()).ok()).flatten()
    };
    entries.filter_map(newest_of).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_snapshot_is_told_from_other_files_and_from_an_older_one() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let before = SystemTime::now() - Duration::from_mins(1);
        let told = |since| caveat("it", directory.path(), since);
        fs::create_dir_all(directory.path().join("member/snap")).expect("it can be made");
        fs::write(directory.path().join("member/snap/db"), "x").expect("it can be written");
        let none = told(before).expect("there is none");
        assert_eq!(none, "it wrote no snapshot meanwhile: measure longer");
        for name in ["member/snap/1.snap", "dump.rdb"] {
            let path = directory.path().join(name);
            fs::write(&path, "x").expect("it can be written");
            assert_eq!(told(before), None, "{name}");
            assert!(told(SystemTime::now() + Duration::from_mins(1)).is_some());
            fs::remove_file(path).expect("it is there");
        }
    }
}
