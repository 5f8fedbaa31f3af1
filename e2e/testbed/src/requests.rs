//! Requests through a Gateway while something else happens.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;

use crate::TestBed;

/// Requests through a Gateway, one after the other, by a name that the engine does not serve: without the
/// endpoint picker, which rewrites it, there is a 404.
pub struct Requests<'a> {
    bed: &'a TestBed,
    gateway: Ipv4Addr,
    sent: Cell<usize>,
    failed: RefCell<Vec<String>>,
}

impl TestBed {
    /// Requests through the Gateway at this address; none was sent yet.
    pub fn requests(&self, gateway: Ipv4Addr) -> Requests<'_> {
        Requests {
            bed: self,
            gateway,
            sent: Cell::new(0),
            failed: RefCell::default(),
        }
    }
}

impl Requests<'_> {
    /// How many were sent so far.
    pub fn sent(&self) -> usize {
        self.sent.get()
    }

    /// What came back from those that were not answered with 200.
    pub fn failed(&self) -> Vec<String> {
        self.failed.borrow().clone()
    }

    /// Sends them until `steps` has ended and there were at least so many.
    pub async fn during<T>(&self, least: usize, steps: impl Future<Output = T>) -> T {
        let done = Cell::new(false);
        let steps = async {
            let result = steps.await;
            done.set(true);
            result
        };
        let requests = async {
            while !done.get() || self.sent.get() < least {
                self.sent.set(self.sent.get() + 1);
                match self.bed.ask(self.gateway, "", "demo").await {
                    Ok(answer) if answer.status == 200 => {}
                    other => self.failed.borrow_mut().push(format!("{other:?}")),
                }
            }
        };
        let (result, ()) = futures::join!(steps, requests);
        result
    }
}
