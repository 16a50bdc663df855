use std::sync::Arc;

use super::{Mount, Surroundings, together};
use crate::{
    Error, Role,
    ports::Port,
    up::instances::{Birth, Life},
};

#[derive(Clone)]
pub(crate) struct Ingress {}

impl Ingress {
    pub(crate) async fn open(_around: &Surroundings) -> Result<Self, Error> {
        Ok(Self {})
    }

    pub(crate) fn birth(
        self,
        around: Surroundings,
        _instance: String,
        port: Arc<Port>,
        http: Arc<Port>,
        beside: Mount,
    ) -> Birth {
        Box::new(move |component, stop| -> Life {
            let (around, port, http, beside) = (around.clone(), port.clone(), http.clone(), beside.clone());
            Box::pin(async move {
                component.ready();
                let services = headwater_rpc::Services::new();
                let on_http = beside(headwater_rpc::Services::new());
                let serve = around.serve(Role::Ingress, &port, services, stop.clone());
                let serve_http = around.serve(Role::Ingress, &http, on_http, stop.clone());
                together(&stop, [Box::pin(serve), Box::pin(serve_http)]).await
            })
        })
    }
}
