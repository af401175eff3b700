// A GET whose answer holds a list of things has the parameters `limit` and `after` and the field `next`, or says what bounds it.
export default (operation) => {
  const answer = operation.responses?.["200"]?.content?.["application/json"]?.schema;
  const fields = Object.entries(answer?.properties ?? {});
  const lists = fields.filter(([, field]) => field.type === "array" && field.items?.type === "object");
  const names = (operation.parameters ?? []).map((item) => item.name);
  const paged = names.includes("limit") && names.includes("after") && "next" in (answer?.properties ?? {});
  if (lists.length > 0 && !paged && !operation["x-bounded"]) {
    return [{ message: `${operation.operationId} answers with a list (${lists[0][0]}) without pages; give it some, or say in x-bounded what bounds it` }];
  }
  return [];
};
