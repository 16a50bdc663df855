//! Reading a refusal as a client would: the reason and the fields it names, in either protocol.
use serde_json::Value;
use tonic::Status;
use tonic_types::StatusExt;

/// `ErrorInfo.reason`, empty where there is none.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The same of Connect's error JSON.
pub fn reason_of_json(answer: &Value) -> String {
    detail(answer, "google.rpc.ErrorInfo")["reason"].as_str().unwrap_or_default().to_owned()
}

/// Every field that BadRequest names.
pub fn fields_of_json(answer: &Value) -> Vec<String> {
    let violations = detail(answer, "google.rpc.BadRequest")["fieldViolations"].as_array().cloned().unwrap_or_default();
    violations.iter().filter_map(|violation| violation["field"].as_str().map(str::to_owned)).collect()
}

fn detail(answer: &Value, name: &str) -> Value {
    let details = answer["details"].as_array().cloned().unwrap_or_default();
    details.into_iter().find(|detail| detail["type"] == name).map(|detail| detail["debug"].clone()).unwrap_or_default()
}
