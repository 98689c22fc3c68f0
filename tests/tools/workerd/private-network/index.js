// A redirect must reach the one who asked, as it does through a real binding.
export default { fetch: (request) => fetch(request, { redirect: "manual" }) };
