//! The API server's rules for pods, as far as they concern devices, in its own words.

use std::collections::BTreeSet;
use std::fmt;

use super::spec::{Container, Pod, Resources};
use crate::names::{
    is_dns_label, is_dns_subdomain, is_extended_resource, is_native_resource, is_qualified_name,
};
use crate::quantity::Quantity;

/// A pod that the API server does not take: every rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pod: String,
    causes: Vec<String>,
}

impl Invalid {
    /// Each broken rule: the field, the kind of error, what is wrong.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod {:?} is invalid: ", self.pod)?;
        match self.causes.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl std::error::Error for Invalid {}

/// Checks a pod whose defaults are set.
///
/// # Errors
/// All broken rules at once.
pub fn validate(pod: &Pod) -> Result<(), Invalid> {
    let mut causes = Vec::new();
    check_name(&pod.metadata.name, &mut causes);
    if pod.spec.containers.is_empty() {
        causes.push("spec.containers: Required value".to_owned());
    }
    let mut names = BTreeSet::new();
    let lists = [
        ("spec.initContainers", &pod.spec.init_containers),
        ("spec.containers", &pod.spec.containers),
    ];
    for (list, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            let path = format!("{list}[{index}]");
            check_container(container, &path, &mut causes);
            if !container.name.is_empty() && !names.insert(container.name.as_str()) {
                causes.push(format!(
                    "{path}.name: Duplicate value: {:?}",
                    container.name
                ));
            }
        }
    }
    if let Err(error) = pod.run_for() {
        causes.push(format!("metadata.annotations: Invalid value: {error}"));
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Invalid {
            pod: pod.metadata.name.clone(),
            causes,
        })
    }
}

fn check_name(name: &str, causes: &mut Vec<String>) {
    if name.is_empty() {
        causes.push("metadata.name: Required value: name or generateName is required".to_owned());
    } else if !is_dns_subdomain(name) {
        causes.push(format!(
            "metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist \
             of lower case alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character"
        ));
    }
}

fn check_container(container: &Container, path: &str, causes: &mut Vec<String>) {
    let name = &container.name;
    if name.is_empty() {
        causes.push(format!("{path}.name: Required value"));
    } else if !is_dns_label(name) {
        causes.push(format!(
            "{path}.name: Invalid value: {name:?}: a lowercase RFC 1123 label must consist of \
             lower case alphanumeric characters or '-', and must start and end with an \
             alphanumeric character"
        ));
    }
    if container.image.is_empty() {
        causes.push(format!("{path}.image: Required value"));
    }
    check_resources(&container.resources, &format!("{path}.resources"), causes);
}

fn check_resources(resources: &Resources, path: &str, causes: &mut Vec<String>) {
    for (name, quantity) in &resources.limits {
        check_amount(name, *quantity, &format!("{path}.limits[{name}]"), causes);
    }
    for (name, request) in &resources.requests {
        check_amount(name, *request, &format!("{path}.requests[{name}]"), causes);
        let overcommit = is_native_resource(name) && !name.starts_with("hugepages-");
        match resources.limits.get(name) {
            Some(limit) if request != limit && !overcommit => causes.push(format!(
                "{path}.requests: Invalid value: \"{request}\": must be equal to {name} limit of \
                 {limit}"
            )),
            Some(limit) if request > limit => causes.push(format!(
                "{path}.requests: Invalid value: \"{request}\": must be less than or equal to \
                 {name} limit of {limit}"
            )),
            None if !overcommit => causes.push(format!(
                "{path}.limits: Required value: Limit must be set for non overcommitable resources"
            )),
            _ => {}
        }
    }
}

fn check_amount(name: &str, quantity: Quantity, path: &str, causes: &mut Vec<String>) {
    let domain_is_foreign = !is_native_resource(name);
    if !is_qualified_name(name) {
        causes.push(format!(
            "{path}: Invalid value: {name:?}: must be a qualified name"
        ));
    } else if !name.contains('/') && !is_standard_resource(name) {
        causes.push(format!(
            "{path}: Invalid value: {name:?}: must be a standard resource type or fully qualified"
        ));
        causes.push(format!(
            "{path}: Invalid value: {name:?}: must be a standard resource for containers"
        ));
    } else if domain_is_foreign && !is_extended_resource(name) {
        causes.push(format!(
            "{path}: Invalid value: {name:?}: doesn't follow extended resource name standard"
        ));
    }
    if quantity.is_negative() {
        causes.push(format!(
            "{path}: Invalid value: \"{quantity}\": must be greater than or equal to 0"
        ));
    }
    if is_extended_resource(name) && !quantity.is_whole() {
        causes.push(format!(
            "{path}: Invalid value: \"{quantity}\": must be an integer"
        ));
    }
}

fn is_standard_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::parse_manifest;

    /// The message for a pod with these resources, or nothing.
    fn refusal(resources: &str) -> Option<String> {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: gpu}}, \
             spec: {{containers: [{{name: c, image: i, resources: {resources}}}]}}}}"
        );
        let mut pod = parse_manifest(&text).unwrap().remove(0);
        pod.set_defaults();
        validate(&pod).err().map(|error| error.to_string())
    }

    #[test]
    fn limits_alone_or_equal_requests_are_taken() {
        assert_eq!(refusal("{limits: {nvidia.com/gpu: 2}}"), None);
        let both = "{limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: '2'}}";
        assert_eq!(refusal(both), None);
        assert_eq!(
            refusal("{requests: {cpu: 500m}, limits: {cpu: 1, memory: 1Gi}}"),
            None
        );
    }

    #[test]
    fn requests_that_differ_from_the_limits_are_refused() {
        assert_eq!(
            refusal("{limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}").unwrap(),
            "Pod \"gpu\" is invalid: spec.containers[0].resources.requests: \
             Invalid value: \"1\": must be equal to nvidia.com/gpu limit of 2"
        );
    }

    #[test]
    fn half_a_gpu_is_refused_for_the_limit_and_for_the_request_made_of_it() {
        assert_eq!(
            refusal("{limits: {nvidia.com/gpu: 0.5}}").unwrap(),
            "Pod \"gpu\" is invalid: [\
             spec.containers[0].resources.limits[nvidia.com/gpu]: \
             Invalid value: \"500m\": must be an integer, \
             spec.containers[0].resources.requests[nvidia.com/gpu]: \
             Invalid value: \"500m\": must be an integer]"
        );
    }

    #[test]
    fn requests_without_limits_are_refused() {
        assert_eq!(
            refusal("{requests: {nvidia.com/gpu: 1}}").unwrap(),
            "Pod \"gpu\" is invalid: spec.containers[0].resources.limits: \
             Required value: Limit must be set for non overcommitable resources"
        );
    }

    #[test]
    fn negative_amounts_and_resources_without_a_domain_are_refused() {
        let negative = refusal("{limits: {nvidia.com/gpu: -1}}").unwrap();
        assert!(
            negative.contains("\"-1\": must be greater than or equal to 0"),
            "{negative}"
        );
        let bare = refusal("{limits: {gpu: 1}}").unwrap();
        assert!(
            bare.contains("must be a standard resource type or fully qualified"),
            "{bare}"
        );
    }

    #[test]
    fn names_and_images_are_required_and_names_unique() {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: Gpu}, spec: {containers: \
                    [{name: c}, {name: c, image: i}, {image: i}]}}";
        let pod = parse_manifest(text).unwrap().remove(0);
        let error = validate(&pod).unwrap_err();
        let causes = error.causes().join("\n");
        for expected in [
            "metadata.name: Invalid value: \"Gpu\"",
            "spec.containers[0].image: Required value",
            "spec.containers[1].name: Duplicate value: \"c\"",
            "spec.containers[2].name: Required value",
        ] {
            assert!(causes.contains(expected), "{expected} not in\n{causes}");
        }
    }
}
