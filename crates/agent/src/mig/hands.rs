//! Calls of the driver that may take long or for ever: each on a thread of its own.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mizzen_core::driver::DriverError;
use mizzen_core::gpu::GpuUuid;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::driver::STACK;

/// Makes calls, and remembers those that did not come back: at most one for each GPU.
#[derive(Debug, Default)]
pub(super) struct Hands {
    stuck: BTreeMap<GpuUuid, JoinHandle<()>>,
}

impl Hands {
    /// Whether a call to this GPU is still under way although nobody waits for it any more.
    pub(super) fn is_stuck(&mut self, gpu: &GpuUuid) -> bool {
        self.stuck.retain(|_, thread| !thread.is_finished());
        self.stuck.contains_key(gpu)
    }

    /// Makes a call to this GPU, which gets so much time.
    ///
    /// # Errors
    /// The driver's; [`DriverError::Hung`] as well while a former call to the GPU is stuck.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        gpu: &GpuUuid,
        limit: Duration,
        call: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        if self.is_stuck(gpu) {
            return Err(DriverError::Hung { after: limit });
        }
        let (tell, answer) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("mig".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // Nobody may wait for it any more.
                let _ = tell.send(call());
            })
            .map_err(|error| DriverError::NotRunning(format!("no thread to ask it on: {error}")))?;
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            // The thread has ended without an answer.
            Ok(Err(_)) => Err(DriverError::NotRunning("the call was lost".to_owned())),
            Err(_) => {
                self.stuck.insert(gpu.clone(), thread);
                Err(DriverError::Hung { after: limit })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use mizzen_testkit::gpus;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_call_that_hangs_costs_its_gpu_and_no_other() {
        let [one, two] = [0, 1].map(|index: usize| gpus(2)[index].uuid.clone());
        let mut hands = Hands::default();
        let (release, released) = mpsc::channel::<()>();
        let hung = hands.call(&one, LIMIT, move || {
            let _ = released.recv();
            Ok(())
        });
        assert_eq!(hung.await, Err(DriverError::Hung { after: LIMIT }));
        assert!(hands.is_stuck(&one));
        let refused = hands.call(&one, LIMIT, || Ok(())).await;
        assert_eq!(refused, Err(DriverError::Hung { after: LIMIT }));
        let long = Duration::from_secs(20);
        assert_eq!(hands.call(&two, long, || Ok(7)).await, Ok(7));

        drop(release);
        while hands.is_stuck(&one) {
            tokio::task::yield_now().await;
        }
        assert_eq!(hands.call(&one, long, || Ok(8)).await, Ok(8));
    }
}
