# Varnish in front of vllm-wsgi, for /etc/varnish/default.vcl. Varnish does no TLS: a load balancer or Hitch before it
# does. Set VLLM_WSGI_PROXY_HOPS to the number of proxies, Varnish included. If vllm-wsgi listens on this machine only,
# set VLLM_WSGI_HOSTS=llm.example.com, too. Replace the server with your own.
vcl 4.1;

backend vllm_wsgi {
    .host = "127.0.0.1";
    .port = "11434";
    # A stream sends at least a heartbeat every 10 s. An answer that is not streamed sends nothing until it is complete.
    .first_byte_timeout = 600s;
    .between_bytes_timeout = 600s;
    .probe = {
        .url = "/readyz";
        .interval = 5s;
        .threshold = 1;
        .window = 2;
        .initial = 1;
    }
}

sub vcl_recv {
    # Varnish adds X-Forwarded-For itself. The client's own values of the others are never passed on.
    set req.http.X-Forwarded-Proto = "https";
    set req.http.X-Forwarded-Host = req.http.Host;
    unset req.http.X-Forwarded-Prefix;
    # Answers are never cached.
    return (pass);
}
