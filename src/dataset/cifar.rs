//! CIFAR-10's binary version: records of one label byte and 32 x 32 x 3 pixels in planes.

use std::path::{Path, PathBuf};

use super::{DatasetError, MAX_BINARY_BYTES};
use crate::image::Image;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

/// The records of one or more files, as they lie in the files.
pub(super) struct Records {
    bytes: Vec<u8>, // (len, RECORD): label, then (3, H, W)
}

impl Records {
    /// Reads `files` in this order. Sizes are checked before anything is allocated, labels once read.
    pub(super) fn read(files: &[PathBuf], classes: usize) -> Result<Self, DatasetError> {
        let mut bytes = Vec::new();
        for path in files {
            let size = std::fs::metadata(path)
                .map_err(|e| DatasetError::read(path, e))?
                .len();
            if size == 0 || size % RECORD as u64 != 0 || size > MAX_BINARY_BYTES {
                let most = MAX_BINARY_BYTES / RECORD as u64;
                return Err(DatasetError::Size {
                    path: path.clone(),
                    bytes: size,
                    most,
                });
            }
            let file = std::fs::read(path).map_err(|e| DatasetError::read(path, e))?;
            for (record, data) in file.chunks_exact(RECORD).enumerate() {
                if usize::from(data[0]) >= classes {
                    return Err(DatasetError::Label {
                        path: path.clone(),
                        record,
                        label: data[0],
                        classes,
                    });
                }
            }
            // A file that grew or shrank since its size was read must not leave a partial record behind.
            bytes.extend_from_slice(&file[..file.len() - file.len() % RECORD]);
        }
        Ok(Self { bytes })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / RECORD
    }

    fn record(&self, index: usize) -> Option<&[u8]> {
        self.bytes.chunks_exact(RECORD).nth(index)
    }

    pub(super) fn label(&self, index: usize) -> Option<u32> {
        Some(u32::from(self.record(index)?[0]))
    }

    pub(super) fn image(&self, index: usize) -> Option<Image> {
        let planes = &self.record(index)?[1..];
        let pixels: Vec<u8> = (0..PLANE)
            .flat_map(|i| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]])
            .collect();
        Image::from_rgb(SIDE, SIDE, pixels)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({})", self.len())
    }
}

/// The binary files of `folder`: `test_batch.bin` if it is there, else every `*.bin` by name; of its sub-folder
/// `cifar-10-batches-bin` (as the archive unpacks) if it has none itself; `None` if that has none either.
pub(super) fn binary_files(folder: &Path) -> Result<Option<Vec<PathBuf>>, DatasetError> {
    for folder in [folder.to_path_buf(), folder.join("cifar-10-batches-bin")] {
        if !folder.is_dir() {
            continue;
        }
        let test = folder.join("test_batch.bin");
        if test.is_file() {
            return Ok(Some(vec![test]));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(|e| DatasetError::read(&folder, e))? {
            let path = entry.map_err(|e| DatasetError::read(&folder, e))?.path();
            if path.extension().is_some_and(|e| e == "bin") && path.is_file() {
                files.push(path);
            }
        }
        if !files.is_empty() {
            files.sort();
            return Ok(Some(files));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    fn record(label: u8, pixel: [u8; 3]) -> Vec<u8> {
        let mut bytes = vec![label];
        for channel in pixel {
            bytes.extend(std::iter::repeat_n(channel, PLANE));
        }
        bytes
    }

    fn ten_classes() -> Vec<String> {
        (0..10).map(|i| i.to_string()).collect()
    }

    #[test]
    fn planes_become_interleaved_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.bin");
        std::fs::write(&path, [record(3, [1, 2, 3]), record(9, [4, 5, 6])].concat()).unwrap();
        let set = Dataset::open(&path, &ten_classes()).unwrap();
        assert_eq!(
            (set.len(), set.label(0), set.label(1), set.label(2)),
            (2, Some(3), Some(9), None)
        );
        let image = set.image(1).unwrap();
        assert_eq!((image.width(), image.height()), (32, 32));
        assert!(image.pixels().chunks_exact(3).all(|p| p == [4, 5, 6]));
    }

    #[test]
    fn a_folder_prefers_its_test_batch() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("data_batch_1.bin"), record(1, [0; 3])).unwrap();
        std::fs::write(inner.join("data_batch_2.bin"), record(2, [0; 3])).unwrap();
        let labels = |set: &Dataset| {
            (0..set.len())
                .map(|i| set.label(i).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            labels(&Dataset::open(folder.path(), &ten_classes()).unwrap()),
            [1, 2]
        );
        std::fs::write(inner.join("test_batch.bin"), record(7, [0; 3])).unwrap();
        assert_eq!(
            labels(&Dataset::open(folder.path(), &ten_classes()).unwrap()),
            [7]
        );
        assert_eq!(labels(&Dataset::open(&inner, &ten_classes()).unwrap()), [7]);
    }

    #[test]
    fn a_partial_record_is_refused_with_the_size_that_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.bin");
        for bytes in [vec![], record(0, [0; 3])[1..].to_vec()] {
            std::fs::write(&path, bytes).unwrap();
            let error = Dataset::open(&path, &ten_classes()).unwrap_err();
            assert!(matches!(error, DatasetError::Size { .. }), "{error}");
            assert!(
                error.to_string().contains("cut.bin") && error.to_string().contains("3073"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_label_beyond_the_models_classes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        std::fs::write(&path, [record(2, [0; 3]), record(10, [0; 3])].concat()).unwrap();
        let error = Dataset::open(&path, &ten_classes()).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::Label {
                    record: 1,
                    label: 10,
                    classes: 10,
                    ..
                }
            ),
            "{error}"
        );
    }
}
