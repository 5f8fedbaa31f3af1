use super::*;
use proptest::prelude::*;

fn parse(pairs: &[(&str, &str)]) -> Result<Option<Exposure>, InvalidSettings> {
    let annotations = pairs
        .iter()
        .map(|(k, v)| (format!("kthena-bridge.io/{k}"), (*v).to_owned()))
        .collect();
    Exposure::parse("default", "demo", &annotations, &Config::default())
}

fn exposed(pairs: &[(&str, &str)]) -> Exposure {
    let pairs: Vec<_> = [("expose", "true")].iter().chain(pairs).copied().collect();
    parse(&pairs).unwrap().unwrap()
}

fn refused(key: &str, value: &str) -> String {
    let invalid = parse(&[("expose", "true"), (key, value)]).unwrap_err();
    assert_eq!(invalid.0.len(), 1, "{invalid}");
    assert_eq!(invalid.0[0].key, format!("kthena-bridge.io/{key}"));
    invalid.to_string()
}

#[test]
fn nothing_counts_without_the_switch() {
    assert_eq!(parse(&[]), Ok(None));
    assert_eq!(parse(&[("expose", "false"), ("port", "x")]), Ok(None));
    assert_eq!(parse(&[("path", "no-slash")]), Ok(None));
}

#[test]
fn everything_has_a_default() {
    let exposure = exposed(&[]);
    assert_eq!(exposure.path, "/");
    assert_eq!(exposure.request_timeout, "300s");
    assert_eq!(exposure.failure_mode, FailureMode::FailOpen);
    assert_eq!(exposure.endpoint_picker, EndpointPicker::default());
}

#[test]
fn values_are_read() {
    let exposure = exposed(&[
        ("gateway", "one, infra/two:http"),
        ("hostnames", "*.example.com"),
        ("path", "/models/demo/"),
        ("model-names", "demo,Qwen/Qwen2.5"),
        ("priority", "-5"),
        ("request-timeout", "1m30s"),
        ("failure-mode", "FailClose"),
        ("endpoint-picker", "mine:9999"),
        ("target-port", "8080"),
        ("pod-selector", "modelserving.volcano.sh/name=x,role="),
        ("paused", "true"),
    ]);
    let gateway = |namespace: &str, name: &str, listener: Option<&str>| GatewayRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        listener: listener.map(str::to_owned),
    };
    assert_eq!(
        exposure.gateways,
        [
            gateway("default", "one", None),
            gateway("infra", "two", Some("http"))
        ]
    );
    assert_eq!(exposure.path, "/models/demo");
    let objective = Objective {
        name: "demo".to_owned(),
        priority: -5,
    };
    assert_eq!(exposure.objectives, [objective]);
    assert_eq!(
        exposure.endpoint_picker,
        EndpointPicker::Service {
            name: "mine".to_owned(),
            port: 9999
        }
    );
    assert_eq!(exposure.pod_selector.unwrap()["role"], "");
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (key, value) in [
        ("gateway", "a//b"),
        ("gateway", ""),
        ("gateway", "a,a"),
        ("hostnames", "Example.com"),
        ("hostnames", "10.0.0.1"),
        ("path", "models"),
        ("path", "/a//b"),
        ("path", "/a b"),
        ("path", "/a/.."),
        ("path", "/a%2Fb"),
        ("path", "/%zz"),
        ("match-model", "yes"),
        ("match-model", "true"),
        ("model-names", "a,,b"),
        ("priority", "2147483648"),
        ("request-timeout", "5 minutes"),
        ("request-timeout", "300"),
        ("request-timeout", ""),
        ("failure-mode", "failopen"),
        ("endpoint-picker", "a:0"),
        ("target-port", "0"),
        ("target-port", "70000"),
        ("pod-selector", "a"),
        ("pod-selector", "-a=b"),
        ("paused", "1"),
        ("expose", "yes"),
    ] {
        let message = if key == "expose" {
            parse(&[(key, value)]).unwrap_err().to_string()
        } else {
            refused(key, value)
        };
        assert!(message.contains(key), "{message}");
    }
    assert!(refused("gatway", "x").contains("did you mean gateway?"));
}

#[test]
fn a_message_is_short_and_has_no_control_characters() {
    let message = refused("path", &format!("x\n\u{7}\"{}", "y".repeat(300)));
    assert!(message.len() < 300, "{message}");
    assert!(!message.chars().any(char::is_control), "{message}");
}

#[test]
fn a_template_that_makes_a_bad_value_is_refused_as_one() {
    let config = Config::parse("hostnameTemplate: '{name}.example.com'").unwrap();
    let annotations = BTreeMap::from([(key::EXPOSE.to_owned(), "true".to_owned())]);
    let too_long = "b".repeat(250);
    let invalid = Exposure::parse("a", &too_long, &annotations, &config).unwrap_err();
    assert!(
        invalid.to_string().contains("operator's default"),
        "{invalid}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_annotation_panics(key in proptest::sample::select(key::ALL[1..].iter().map(|a| a.key).collect::<Vec<_>>()), value in "\\PC{0,40}|[-a-z0-9/.,:=%~]{0,40}") {
        let annotations = BTreeMap::from([(key::EXPOSE.to_owned(), "true".to_owned()), (key.to_owned(), value)]);
        let _ = Exposure::parse("default", "demo", &annotations, &Config::default());
    }
}

mod object {
    use super::*;
    use kthena_bridge_api::model_exposure::ModelExposureSpec;
    use serde_json::{Value, json};

    fn read(mut spec: Value) -> Result<Exposure, InvalidSettings> {
        spec["targetRef"] = json!({"kind": "ModelServer", "name": "demo"});
        let spec: ModelExposureSpec = serde_json::from_value(spec).unwrap();
        Exposure::of_object("default", "demo", &spec, &Config::default())
    }

    #[test]
    fn everything_has_a_default() {
        let annotated = exposed(&[]);
        assert_eq!(read(json!({})), Ok(annotated));
    }

    #[test]
    fn what_annotations_cannot_say_is_read() {
        let exposure = read(json!({
            "objectives": [{"name": "interactive", "priority": 10}, {"name": "batch", "priority": -10}],
            "endpointPicker": {"managed": {
                "replicas": 2,
                "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                "pluginsConfig": {"plugins": [{"type": "queue-scorer"}],
                    "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "queue-scorer", "weight": 1}]}]},
            }},
        }))
        .unwrap();
        assert_eq!(exposure.objectives.len(), 2);
        let EndpointPicker::Managed(settings) = exposure.endpoint_picker else {
            unreachable!("it is run")
        };
        let config = Config::default().endpoint_picker.with(&settings);
        assert_eq!(config.replicas.get(), 2);
        assert_eq!(
            serde_json::to_value(&config.resources).unwrap(),
            json!({
            "requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}})
        );
        let plugins = config.plugins_config.plugins.unwrap();
        assert_eq!(plugins.len(), 1);
    }

    #[test]
    fn a_bad_field_is_named_with_what_is_allowed() {
        let refused = |spec: Value| read(spec).unwrap_err().to_string();
        let all = [
            json!({"gateways": [{"name": "A"}]}),
            json!({"gateways": [{"name": "a", "namespace": "x.y"}, {"name": "b", "sectionName": "_"}]}),
            json!({"gateways": [{"name": "a"}, {"name": "a", "namespace": "default"}]}),
            json!({"hostnames": ["Example.com"]}),
            json!({"hostnames": ["10.0.0.1"]}),
            json!({"hostnames": ["a.example.com", "a.example.com"]}),
            json!({"path": "demo"}),
            json!({"path": "/a b"}),
            json!({"path": "/a//b"}),
            json!({"path": "/a/.."}),
            json!({"matchModel": true}),
            json!({"modelNames": ["a b"]}),
            json!({"objectives": [{"name": "A", "priority": 1}]}),
            json!({"objectives": [{"name": "a", "priority": 1}, {"name": "a", "priority": 2}]}),
            json!({"requestTimeout": "5 minutes"}),
            json!({"failureMode": "Fail"}),
            json!({"endpointPicker": {"managed": {}, "service": {"name": "a"}}}),
            json!({"endpointPicker": {"service": {"name": "A", "port": 0}}}),
            json!({"endpointPicker": {"managed": {"replicas": 9}}}),
            json!({"endpointPicker": {"managed": {"replicas": 0}}}),
            json!({"endpointPicker": {"managed": {"resources": {"requests": {"cpu": "much"}}}}}),
            json!({"endpointPicker": {"managed": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}}}),
            json!({"endpointPicker": {"managed": {"pluginsConfig": {"plugin": []}}}}),
            json!({"endpointPicker": {"managed": {"pluginsConfig": {"plugins": [{"type": "a"}, {"type": "a"}]}}}}),
            json!({"targetPort": 70_000}),
            json!({"selector": {"matchLabels": {}}}),
            json!({"selector": {"matchLabels": {"a b": "c"}}}),
            json!({"selector": {"matchLabels": {"a": "b c"}}}),
        ];
        let told: Vec<String> = all.into_iter().map(refused).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
