//! A shard that stands still, so that a test can see what happens around it.

use ebbtide::{Engine, EntityId, VisitError};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

/// A shard that does nothing until this is dropped.
#[derive(Debug)]
pub struct Stopped {
    go_on: Option<mpsc::Sender<()>>,
    visitor: Option<JoinHandle<Result<(), VisitError>>>,
}

impl Stopped {
    /// Stops the shard that owns `entity`; it stands still when this returns.
    ///
    /// # Panics
    ///
    /// If the shard is down.
    #[must_use]
    pub fn shard_of(engine: &Arc<Engine>, entity: EntityId) -> Self {
        let (go_on, told) = mpsc::channel::<()>();
        let (stand, stands) = mpsc::channel();
        let engine = Arc::clone(engine);
        let wait = move || {
            engine.on_shard(entity, move |_| {
                stand.send(()).expect("the test waits for the shard to stand");
                // Hangs up when the shard may go on.
                let _hung_up = told.recv();
            })
        };
        let visitor = thread::spawn(wait);
        stands.recv().expect("the shard runs");
        Self { go_on: Some(go_on), visitor: Some(visitor) }
    }

    /// Lets the shard go on, and waits until nothing here holds the engine any more.
    pub fn go_on(self) {
        drop(self);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.go_on = None;
        if let Some(visitor) = self.visitor.take() {
            // Whether the shard failed afterwards is for the test to say.
            let _outcome = visitor.join();
        }
    }
}
