//! Who has a host and a path.

use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DynamicObject;
use testbed::{Model, Namespace, Result};

use super::case::{Case, GATEWAY, expose, gateway_yaml};
use super::probe::Question;
use super::{MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    let works = answers("Accepted", "Programmed");
    let conflict = fails("RouteConflict", NOT_TRUE);
    vec![
        Situation::from_nothing("two claims on one path", conflict, same_path),
        // What was serving goes on.
        Situation::from_nothing(
            "moved onto the path of another",
            answers("RouteConflict", "Programmed"),
            moved_onto,
        ),
        Situation::from_nothing(
            "path of a route that is made by hand",
            conflict,
            path_of_by_hand,
        ),
        Situation::from_nothing(
            "an older route edited onto the path",
            fails("Accepted", "RouteOutranked"),
            older_route_edited,
        ),
        Situation::new("a newer route on the path", works, newer_route),
        Situation::from_nothing("below a path of the same namespace", works, below_own),
        Situation::from_nothing("below / of another namespace", works, below_root),
        Situation::from_nothing(
            "below a longer path of another namespace",
            conflict,
            below_longer,
        ),
        Situation::from_nothing("inside a host of another namespace", conflict, inside_host),
    ]
}

/// The Model that was there first, and the Gateway of both.
struct Holder<'b> {
    model: Model<'b>,
    /// With its namespace.
    gateway: String,
}

/// A Model that is exposed on a Gateway that takes routes of every namespace.
async fn holder<'b>(
    case: &Case<'b>,
    namespace: &Namespace<'b>,
    annotations: &[(&str, &str)],
) -> Result<Holder<'b>> {
    let all = "name: http, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}";
    case.apply(&gateway_yaml(GATEWAY, all)).await?;
    let gateway = format!("{}/{GATEWAY}", case.namespace.name());
    let model = namespace.model("holder").await?;
    let annotations = [&[("gateway", gateway.as_str())], annotations].concat();
    expose(&model, &annotations).await?;
    model.wait_for_condition("Programmed", "True").await?;
    Ok(Holder { model, gateway })
}

/// The Model that comes second, asked for at this path; active and not yet exposed.
async fn newcomer<'b>(case: &Case<'b>, path: &str) -> Result<Model<'b>> {
    let gateway = case.gateway_address(GATEWAY).await?;
    let model = case.namespace.model(MODEL).await?;
    let question = Question {
        path: path.to_owned(),
        ..Question::of(&model, gateway)
    };
    case.observe(&model, question)?;
    model.wait_for_condition("Active", "True").await?;
    Ok(model)
}

/// The second one is served as soon as the claim is free.
async fn same_path(case: &Case<'_>) -> Result<()> {
    let first = holder(case, &case.namespace, &[]).await?;
    let second = newcomer(case, "").await?;
    case.broken_by(expose(&second, &[("gateway", &first.gateway)]))
        .await;
    case.undone_by(first.model.annotate(&[("path", Some("/holder"))]))
        .await;
    Ok(())
}

async fn moved_onto(case: &Case<'_>) -> Result<()> {
    let first = holder(case, &case.namespace, &[]).await?;
    let second = newcomer(case, "/demo").await?;
    expose(&second, &[("gateway", &first.gateway), ("path", "/demo")]).await?;
    case.works().await?;
    case.broken_by(second.annotate(&[("path", Some("/"))]))
        .await;
    case.undone_by(second.annotate(&[("path", Some("/demo"))]))
        .await;
    Ok(())
}

async fn below_own(case: &Case<'_>) -> Result<()> {
    let first = holder(case, &case.namespace, &[("path", "/team")]).await?;
    let second = newcomer(case, "/team/demo").await?;
    let at = [("gateway", first.gateway.as_str()), ("path", "/team/demo")];
    case.broken_by(expose(&second, &at)).await;
    Ok(())
}

async fn below_root(case: &Case<'_>) -> Result<()> {
    let other = case.bed.namespace("truth-holder").await?;
    let first = holder(case, &other, &[]).await?;
    let second = newcomer(case, "/demo").await?;
    let at = [("gateway", first.gateway.as_str()), ("path", "/demo")];
    case.broken_by(expose(&second, &at)).await;
    Ok(())
}

async fn below_longer(case: &Case<'_>) -> Result<()> {
    let other = case.bed.namespace("truth-holder").await?;
    let first = holder(case, &other, &[("path", "/team")]).await?;
    let second = newcomer(case, "/team/demo").await?;
    let at = [("gateway", first.gateway.as_str()), ("path", "/team/demo")];
    case.broken_by(expose(&second, &at)).await;
    case.undone_by(first.model.annotate(&[("path", Some("/elsewhere"))]))
        .await;
    Ok(())
}

async fn inside_host(case: &Case<'_>) -> Result<()> {
    let other = case.bed.namespace("truth-holder").await?;
    let host = "team.example.com";
    let first = holder(case, &other, &[("hostnames", host)]).await?;
    let second = newcomer(case, "/demo").await?;
    case.ask(|question| question.host = Some(host.to_owned()));
    let at = [
        ("gateway", first.gateway.as_str()),
        ("hostnames", host),
        ("path", "/demo"),
    ];
    case.broken_by(expose(&second, &at)).await;
    let elsewhere = [("hostnames", Some("elsewhere.example.com"))];
    case.undone_by(first.model.annotate(&elsewhere)).await;
    Ok(())
}

const BY_HAND: &str = "by-hand";

/// Makes or edits a route to nothing, and waits until the Gateway has taken it.
async fn route_by_hand(case: &Case<'_>, path: &str) -> Result<()> {
    case.apply(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {BY_HAND}}}
spec:
  parentRefs: [{{name: {GATEWAY}}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: '{path}'}}}}]
    backendRefs: [{{name: nothing, port: 80}}]
"
    ))
    .await?;
    let resource = ChildKind::HTTPRoute.api_resource();
    let api: Api<DynamicObject> =
        Api::namespaced_with(case.client()?, case.namespace.name(), &resource);
    case.wait_for("the route that is made by hand is accepted", async || {
        let route = api.get(BY_HAND).await.map_err(|e| e.to_string())?;
        let accepted = &route.data["status"]["parents"][0]["conditions"][0];
        let seen = accepted["observedGeneration"].as_i64();
        if accepted["status"] == "True" && seen == route.metadata.generation {
            Ok(())
        } else {
            Err(format!("{:#}", route.data["status"]))
        }
    })
    .await
}

async fn path_of_by_hand(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    route_by_hand(case, "/").await?;
    case.broken_by(expose(&model, &[])).await;
    case.undone_by(route_by_hand(case, "/by-hand")).await;
    Ok(())
}

async fn older_route_edited(case: &Case<'_>) -> Result<()> {
    case.namespace.gateway(GATEWAY).await?;
    route_by_hand(case, "/by-hand").await?;
    case.exposed(&[]).await?;
    case.broken_by(route_by_hand(case, "/")).await;
    case.undone_by(route_by_hand(case, "/by-hand")).await;
    Ok(())
}

async fn newer_route(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.broken_by(route_by_hand(case, "/")).await;
    case.undone_by(case.delete(model, ChildKind::HTTPRoute, BY_HAND))
        .await;
    Ok(())
}
