use std::collections::BTreeSet;
use std::sync::Arc;

use gabor::data::{Batch, DataError, Dataset, ImageSize, ImageSource, Label, Loader, LoaderOptions, Order};

const SIZE: ImageSize = ImageSize::new(2, 3, 1);

/// `count` images whose pixels are all the image's number and whose label is that number modulo 3.
fn set(count: usize) -> Dataset {
    let pixels = (0..count).flat_map(|index| vec![index as u8; SIZE.bytes()]).collect();
    let labels: Vec<u32> = (0..count as u32).map(|index| index % 3).collect();
    Dataset::from_pixels("numbers", pixels, SIZE, labels, vec!["a".into(), "b".into(), "c".into()]).unwrap()
}

fn loader(options: LoaderOptions) -> Loader {
    Loader::new(set(50), options).unwrap()
}

fn shuffled(seed: u64, threads: usize) -> Loader {
    loader(LoaderOptions { order: Order::Shuffled { seed }, threads, ..LoaderOptions::new(8) })
}

fn batches(loader: &Loader, epoch: u64, start: usize) -> Vec<Batch> {
    loader.epoch(epoch, start).collect::<Result<_, _>>().unwrap()
}

#[test]
fn evaluation_keeps_the_order_and_fills_the_last_batch() {
    let loader = loader(LoaderOptions::new(8));
    let batches = batches(&loader, 0, 0);
    assert_eq!((batches.len(), loader.batches()), (7, 7));
    assert_eq!(batches[1].indices, [8, 9, 10, 11, 12, 13, 14, 15]);
    let last = &batches[6];
    assert_eq!(last.indices, [48, 49, 0, 1, 2, 3, 4, 5]);
    assert_eq!((last.real, &last.weights[..]), (2, &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0][..]));
    for batch in &batches {
        for (at, &index) in batch.indices.iter().enumerate() {
            assert_eq!(batch.labels.get(at), Label::Class(index % 3));
            assert_eq!(batch.images[at * SIZE.bytes()..][..SIZE.bytes()], [index as u8; 6]);
        }
    }
}

#[test]
fn a_batch_larger_than_the_set_wraps_around() {
    let loader = Loader::new(set(3), LoaderOptions::new(8)).unwrap();
    let batch = loader.batch(0, 0).unwrap();
    assert_eq!((batch.indices, batch.real), (vec![0, 1, 2, 0, 1, 2, 0, 1], 3));
}

#[test]
fn an_epoch_has_each_image_once_in_an_order_of_its_own() {
    let loader = shuffled(1, 2);
    let order = |epoch| {
        let batches = batches(&loader, epoch, 0);
        batches.into_iter().flat_map(|batch| batch.indices[..batch.real].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(order(0).len(), 50);
    assert_eq!(order(0).into_iter().collect::<BTreeSet<_>>().len(), 50);
    assert_ne!(order(0), order(1));
}

#[test]
fn threads_and_starting_points_do_not_change_a_batch() {
    let one = batches(&shuffled(3, 1), 5, 0);
    for threads in [2, 3, 16] {
        let loader = shuffled(3, threads);
        assert_eq!(batches(&loader, 5, 0), one);
        for start in [1, 4, 6] {
            assert_eq!(batches(&loader, 5, start), one[start..]);
        }
        assert!(batches(&loader, 5, 7).is_empty());
        assert!(batches(&loader, 5, 99).is_empty());
        assert_eq!(loader.batch(5, 3).unwrap(), one[3]);
    }
    assert_ne!(batches(&shuffled(4, 1), 5, 0), one);
}

#[test]
fn recycled_memory_is_used_again_and_leaves_no_trace() {
    let loader = shuffled(0, 2);
    let fresh = batches(&loader, 0, 0);
    for _ in 0..3 {
        for (number, batch) in loader.epoch(0, 0).enumerate() {
            let batch = batch.unwrap();
            assert_eq!(batch, fresh[number]);
            loader.recycle(batch);
        }
    }
}

#[test]
fn leaving_an_epoch_early_stops_its_threads() {
    let loader = shuffled(0, 4);
    let mut epoch = loader.epoch(0, 0);
    epoch.next().unwrap().unwrap();
    drop(epoch);
    assert_eq!(batches(&loader, 1, 0).len(), 7);
}

#[test]
fn weights_of_classes_go_to_real_images_only() {
    let options = LoaderOptions { class_weights: Some(vec![0.5, 2.0, 1.0]), ..LoaderOptions::new(8) };
    let last = loader(options).batch(0, 6).unwrap();
    assert_eq!(last.labels.classes().unwrap()[..3], [0, 1, 0]);
    assert_eq!(last.weights, [0.5, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn images_drawn_by_weights_are_the_same_wherever_an_epoch_starts() {
    let weights: Vec<f64> = (0..50).map(|at| f64::from(u8::from(at % 5 == 0))).collect();
    let drawn = |order, threads, weights| {
        let options = LoaderOptions { order, threads, image_weights: Some(weights), ..LoaderOptions::new(8) };
        Loader::new(loader(LoaderOptions::new(8)).dataset().clone(), options)
    };
    let shuffled = Order::Shuffled { seed: 3 };
    let one = batches(&drawn(shuffled, 1, weights.clone()).unwrap(), 2, 0);
    assert_eq!(batches(&drawn(shuffled, 3, weights.clone()).unwrap(), 2, 4), one[4..]);
    let indices: Vec<u32> = one.iter().flat_map(|batch| batch.indices[..batch.real].to_vec()).collect();
    assert!(indices.len() == 50 && indices.iter().all(|index| index % 5 == 0), "{indices:?}");
    assert_ne!(batches(&drawn(shuffled, 1, weights.clone()).unwrap(), 3, 0)[0].indices, one[0].indices);
    for (order, weights, word) in [
        (Order::Sequential, weights, "shuffled order"),
        (shuffled, vec![1.0; 49], "49 weights"),
        (shuffled, vec![0.0; 50], "above 0"),
    ] {
        let error = drawn(order, 1, weights).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// Images of which number 20 breaks in a given way.
struct Breaking {
    panics: bool,
}

impl ImageSource for Breaking {
    fn len(&self) -> usize {
        50
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        if index == 20 {
            assert!(!self.panics, "this panic belongs to the test");
            return Err(DataError::Image { path: "20.png".into(), reason: "gone".into() });
        }
        out.fill(index as u8);
        Ok(())
    }
}

fn breaking(panics: bool, strict: bool, threads: usize) -> Vec<Result<Batch, DataError>> {
    let set = Dataset::new("breaking", Arc::new(Breaking { panics }), SIZE, vec![0; 50], vec!["a".into()]).unwrap();
    let loader = Loader::new(set, LoaderOptions { threads, strict, ..LoaderOptions::new(8) }).unwrap();
    loader.epoch(0, 0).collect()
}

#[test]
fn an_error_of_a_thread_comes_in_the_place_of_its_batch_and_ends_the_epoch() {
    for threads in [1, 3] {
        let mut results = breaking(false, true, threads);
        assert_eq!(results.len(), 3);
        let error = results.pop().unwrap().unwrap_err();
        assert!(error.to_string().contains("20.png"), "{error}");
        assert!(results.iter().all(Result::is_ok));
        let panicked = breaking(true, true, threads).pop().unwrap();
        assert!(matches!(panicked, Err(DataError::LoaderThread { batch: 2 })));
    }
}

#[test]
fn an_image_that_cannot_be_read_any_more_does_not_count() {
    for threads in [1, 3] {
        let batches: Vec<Batch> = breaking(false, false, threads).into_iter().map(|batch| batch.unwrap()).collect();
        let real: Vec<usize> = batches.iter().map(|batch| batch.real).collect();
        assert_eq!(real, [8, 8, 7, 8, 8, 8, 2]);
        let Batch { indices, weights, images, .. } = &batches[2];
        assert_eq!(indices[..], [16, 17, 18, 19, 23, 21, 22, 20]);
        assert_eq!(weights[..], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!((images[4 * SIZE.bytes()], images[7 * SIZE.bytes()]), (23, 0));
    }
}

#[test]
fn impossible_options_are_refused() {
    let refused = |set, options| Loader::new(set, options).map(|_| ()).unwrap_err().to_string();
    assert!(refused(set(0), LoaderOptions::new(8)).contains("no images"));
    assert!(refused(set(5), LoaderOptions::new(0)).contains("batch size"));
    for weights in [vec![1.0], vec![1.0, -1.0, 1.0], vec![1.0, f32::NAN, 1.0]] {
        let options = LoaderOptions { class_weights: Some(weights), ..LoaderOptions::new(8) };
        assert!(refused(set(5), options).contains("3 classes"));
    }
}
